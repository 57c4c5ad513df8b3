"""The entry point. The daemon starts without the command line's libraries: they would stay in its memory for months."""

import sys

from floatip import DEFAULT_CONFIG


def main() -> None:
    arguments = sys.argv[1:]
    if arguments[:1] == ["run"] and not any(argument.startswith("-") for argument in arguments) and len(arguments) <= 2:
        from floatip.host import daemon  # noqa: PLC0415

        sys.exit(daemon.run(arguments[1] if len(arguments) == 2 else DEFAULT_CONFIG))
    if arguments[:1] == ["notify"]:
        from floatip import notify  # noqa: PLC0415

        sys.exit(notify.main(arguments[1:]))
    if arguments[:1] == ["lelastic"]:
        from floatip import lelastic  # noqa: PLC0415

        sys.exit(lelastic.main(arguments[1:]))
    from floatip.cli import app  # noqa: PLC0415

    app(prog_name="floatip")


if __name__ == "__main__":
    main()
