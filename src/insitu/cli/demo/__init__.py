"""`insitu demo`: the whole story, with real parts, on one machine.

command.py    options, signals, and what is printed
story.py      the steps; each one checks what it claims
places.py     folders and caches      processes.py  hub, agent and registry, and their end
people.py     who acts, with a key each      table.py  the private table
telling.py    progress on stderr      report.py  the summary
"""
