"""The only SQL. Rows do not leave this package: functions give values and views."""
