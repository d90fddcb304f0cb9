"""What the names of BigEarthNet's patches say: when, where, and whether they are of BEN-14K.

version 1, Sentinel-2   S2A_MSIL2A_20170613T101031_87_48                       no tile
version 2, Sentinel-2   S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_37_88
both, Sentinel-1        S1A_IW_GRDH_1SDV_20170613T165043_33UUP_61_39
"""

import datetime
import re

S2_NAME = re.compile(r"S2[A-Z]_MSIL2A_\d{8}T\d{5,6}_\w+", re.ASCII)
S1_NAME = re.compile(r"S1[A-Z]_\w+", re.ASCII)
_TIME = re.compile(r"_(\d{8})T(\d{5,6})_", re.ASCII)
_CELL = re.compile(r"_T?(\d\d[A-Z]{3})_(\d+)_(\d+)\Z", re.ASCII)


def acquired(name: str) -> str:
    """Reads the time of acquisition, ISO 8601 in UTC, out of a name; "" where it is no time.

    Version 1 writes hours without a leading zero, and seconds beyond 59.
    """
    if found := _TIME.search(name):
        try:
            time = datetime.datetime.strptime(f"{found[1]}{found[2]:0>6}", "%Y%m%d%H%M%S")
        except ValueError:
            return ""
        return f"{time.isoformat()}Z"
    return ""


def ground(name: str) -> str:
    """Reads tile, column and row out of a name, the same at any date; "" where they are not in."""
    found = _CELL.search(name)
    return f"{found[1]}_{int(found[2])}_{int(found[3])}" if found else ""


def is_ben14k(s2_name: str, country: str) -> bool:
    """Says whether a patch is of Serbia, taken in June, July or August: CSMAE's BEN-14K."""
    found = _TIME.search(s2_name)
    return country == "Serbia" and found is not None and found[1][4:6] in ("06", "07", "08")
