"""What signed code says of itself, on the way from the agent to the gate's process."""

from insitu.gate.channels.code_words import CodeWordsFile, read_code, words_of, write_code_words


def test_files_lines_and_words_are_collected(tmp_path):
    code = tmp_path / "code"
    (code / "deep").mkdir(parents=True)
    (code / "train.py").write_text("def fit_model():\n    return topScore\n")
    (code / "deep" / "more.py").write_text("x = 500")
    (code / "weights.bin").write_bytes(b"secretword")
    (code / "link.py").symlink_to(code / "weights.bin")
    found = read_code(code)
    assert found.lines_of == {"train.py": 3, "deep/more.py": 1}
    assert {"fit_model", "topScore", "500"} <= found.words
    assert "secretword" not in found.words
    assert found.has_line("train.py", 2)
    assert not found.has_line("train.py", 9)
    assert not found.has_line("none.py", 1)
    assert {"fit", "model", "top", "score", "500"} <= found.parts


def test_what_is_written_is_read_and_what_is_broken_is_nothing(tmp_path):
    code, path = tmp_path / "code", tmp_path / "code-words.json"
    code.mkdir()
    (code / "a.py").write_text("word = 1")
    write_code_words(read_code(code), path)
    assert CodeWordsFile(path).found == read_code(code)
    path.write_text("{")
    assert CodeWordsFile(path).found.words == frozenset()
    assert CodeWordsFile(None).found.words == frozenset()


def test_names_are_taken_apart_as_people_write_them():
    assert words_of("trainAUC_top5", "val/mean-F1") == ["train", "auc", "top", "5", "val", "mean", "f", "1"]
