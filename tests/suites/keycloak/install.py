"""Downloads the pinned Keycloak from Maven Central, compares its hash, and unpacks it: install.py PIN INTO

The pin is `VERSION SHA-256`. A distribution that is there already is made anew.
"""

import hashlib
import shutil
import sys
import urllib.request
import zipfile
from pathlib import Path

URL = "https://repo1.maven.org/maven2/org/keycloak/keycloak-quarkus-dist/{0}/keycloak-quarkus-dist-{0}.zip"


def main(pin, into):
    version, wanted = Path(pin).read_text().split()
    into = Path(into)
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    archive = into / "keycloak.zip"
    found = hashlib.sha256()
    with urllib.request.urlopen(URL.format(version), timeout=60) as response, archive.open("wb") as out:
        while piece := response.read(1 << 20):
            found.update(piece)
            out.write(piece)
    if found.hexdigest() != wanted:
        archive.unlink()
        sys.exit(f"{URL.format(version)} has the hash {found.hexdigest()}, not the pinned {wanted}")
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(into)
    archive.unlink()
    (into / f"keycloak-{version}").rename(into / "dist")


if __name__ == "__main__":
    main(*sys.argv[1:])
