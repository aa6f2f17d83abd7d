"""A program that answers one message: the question as JSON on standard input, a part to a line on standard output."""

import json
import sys


def main() -> None:
    asked = json.load(sys.stdin)
    text = asked["message"]["content"]
    if len(text) > 10_000:
        # 64 to 78 are final (sysexits.h); any other status but 0 makes the supervisor try again.
        print("that is too long for me", file=sys.stderr)
        sys.exit(65)
    print(json.dumps({"type": "thinking", "content": f"They wrote {len(text)} characters."}), flush=True)
    print(json.dumps({"content": f"Python heard: {text}"}), flush=True)


if __name__ == "__main__":
    main()
