"""`router schema`: the JSON schema of the configuration file, for editors."""

import json

from router.config.reference import json_schema


def schema() -> int:
    """Write the schema to standard output; gives the exit status."""
    print(json.dumps(json_schema(), indent=2, ensure_ascii=False))
    return 0
