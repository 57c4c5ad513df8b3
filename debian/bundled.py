"""Writes a paragraph of debian/copyright for each library in the given directory, from the metadata of the library."""

import re
import sys
from importlib.metadata import Distribution, distributions

IN_DEBIAN = {"Apache License": "Apache-2.0", "GNU GENERAL PUBLIC LICENSE": "GPL-2"}
"""Licences whose text every Debian system has."""


def licence(text: str) -> str:
    first = text.strip().splitlines()[0].strip()
    return f"see /usr/share/common-licenses/{IN_DEBIAN[first]}" if first in IN_DEBIAN else text


def paragraph(library: Distribution) -> str:
    metadata = library.metadata
    files = library.files or ()
    texts = [licence(file.read_text()) for file in files if re.search(r"dist-info/(licenses/|LICEN[CS]E)", str(file))]
    assert texts, f"{metadata['Name']} comes without the text of its licence"
    holders = re.findall(r"^\s*Copyright ((?:\(c\)|©|\d).*)$", "\n".join(texts), re.MULTILINE | re.IGNORECASE)
    folders = {file.parts[0] for file in files if file.suffix == ".py"}
    classifiers = [line.split(" :: ")[-1] for line in metadata.get_all("Classifier", ()) if line.startswith("License")]
    licences = [metadata["License-Expression"], metadata["License"], *classifiers]
    return "\n".join(
        [
            "",
            f"Files: {' '.join(sorted(f'usr/lib/floatip/{name}' for name in folders))}",
            f"Copyright: {', '.join(dict.fromkeys(holders))}",
            f"License: {next(filter(None, licences))}",
            *(f" {line.rstrip() or '.'}" for text in texts for line in text.strip().splitlines()),
            f"Comment: {metadata['Name']} {metadata['Version']}",
        ]
    )


for library in sorted(distributions(path=[sys.argv[1]]), key=lambda found: found.metadata["Name"].lower()):
    print(paragraph(library))
