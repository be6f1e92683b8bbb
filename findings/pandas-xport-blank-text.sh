#!/usr/bin/env bash
# pandas.read_sas leaves out the last rows of a SAS transport file where a text is blank in them, without a word.
#
# Versions: pandas 3.1.1, pyreadstat 1.3.7 (which writes the files, and reads them back whole), numpy 2.4.6.
# Behaviour: a transport file (version 5, in which trials are submitted) says nowhere how many rows it has, and its last
#   80 bytes are filled up with blanks. pandas takes every 8 blank bytes of these 80 for filling, wherever they stand, so
#   also those of a text that is empty, or shorter than its column by 8 to 15. It leaves out as many rows as these bytes
#   would be, whole ones with values among them, and neither raises nor warns. Only where a row has 80 bytes or less.
# Seen: a number and a text, 1 to 60 rows: where only the first row has a text (of 8, 16 or 40 characters), 59 of 60 files
#   lose rows, up to 3; where the other texts are short ("y", in a column of 16) 59 lose up to 2; where all fill their column, none.
# Fails if any of this changes.
set -euo pipefail
cd "$(mktemp -d)"
python3 -m venv env >/dev/null
env/bin/python -m pip install --quiet --disable-pip-version-check pandas==3.1.1 pyreadstat==1.3.7 numpy==2.4.6
env/bin/python -W error - <<'PYTHON'
import numpy as np
import pandas as pd
import pyreadstat


def lost(rows: int, width: int, others: str) -> int:
    """How many rows of a file with a number and a text pandas leaves out; all rows but the first have the text ``others``."""
    table = pd.DataFrame({"age": 40.0 + np.arange(rows), "reason": ["x" * width] + [others] * (rows - 1)})
    pyreadstat.write_xport(table, "table.xpt", file_format_version=5)
    whole, _ = pyreadstat.read_xport("table.xpt")
    assert whole["age"].tolist() == table["age"].tolist()  # the file holds every row
    read = pd.read_sas("table.xpt", encoding="infer")
    assert read["age"].tolist() == table["age"].tolist()[: len(read)]  # what is read is right
    return rows - len(read)


for width, most in ((8, 3), (16, 3), (40, 2)):
    empty, full = ([lost(rows, width, text) for rows in range(1, 61)] for text in ("", "z" * width))
    print(f"{width:2} characters, empty in the last rows: {np.count_nonzero(empty)} of 60 files lose up to {max(empty)} rows; never empty: {max(full)}")
    assert (np.count_nonzero(empty), max(empty), max(full)) == (59, most, 0)
short = [lost(rows, 16, "y") for rows in range(1, 61)]
print(f"16 characters, of which one is used in the last rows: {np.count_nonzero(short)} of 60 files lose up to {max(short)} rows")
assert (np.count_nonzero(short), max(short)) == (59, 2)
PYTHON
