"""What a job may ask for is what is here and was not put away."""

from __future__ import annotations

from pathlib import Path

from insitu.agent.catalogue import add_dataset, note_on_dataset, offered
from insitu.agent.datastores import add_datastore
from insitu.agent.folder import SiteFolder
from insitu.agent.settings import AgentSettings, save_settings


def test_only_what_is_here_and_not_archived_is_offered(tmp_path: Path) -> None:
    folder = SiteFolder(tmp_path / "site")
    folder.make()
    save_settings(folder, AgentSettings(hub="http://127.0.0.1:1"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rows.csv").write_text("age,ward\n47,north\n51,south\n")
    add_datastore(folder, "private", str(tmp_path / "data"))
    kept, put_away = (add_dataset(folder, "rows", datastore="private", pattern="*.csv") for _ in range(2))
    note_on_dataset(put_away, archived=True)
    asked = [("rows", 1), ("rows", 2), ("rows", 3), ("others", 1), ("../rows", 1)]
    assert offered(folder, asked) == {("rows", 1): kept.digest}
