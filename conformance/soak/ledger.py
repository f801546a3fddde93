"""The accounts of one shell: what its clients say they sent, held against its access log."""

import collections
import json

from proxy import Tail

# Examples of each complaint that are kept; all are counted.
EXAMPLES = 20


def identity_of(target):
    """The id in the query of a logged target."""
    _, found, rest = target.partition("id=")
    return rest.split("&")[0] if found else None


class Ledger:
    def __init__(self, journal, access_log):
        self.journal, self.access_log = Tail(journal), Tail(access_log)
        # By id: what was seen of either side while the other has not come.
        self.notes, self.lines = {}, collections.defaultdict(list)
        self.outcomes = collections.Counter()  # lines, by listener, reason and ending
        self.seen = collections.Counter()  # requests, by kind and what the client saw
        self.complaints, self.complaint_count = [], 0
        self.requests = self.logged = self.moved = self.unlogged = 0
        self.nameless = 0
        self.hostile_least = self.hostile_most = self.hostile_lines = 0

    def complain(self, text):
        self.complaint_count += 1
        if len(self.complaints) < EXAMPLES:
            self.complaints.append(text)

    def read(self):
        """Takes what has come since the last call. Whatever has both sides is settled and forgotten."""
        for line in self.journal.lines():
            self.take_note(json.loads(line))
        for line in self.access_log.lines():
            self.take_line(json.loads(line))
        for identity in [identity for identity in self.lines if identity in self.notes]:
            self.settle(identity)

    def take_note(self, note):
        if isinstance(note, list):
            identity, kind, saw, *owed = note
            self.requests += 1
            self.seen[f"{kind}: {saw}"] += 1
            self.notes[identity] = (saw, *owed)
        elif "violation" in note:
            self.complain(note["violation"])
        elif "moved" in note:
            self.moved += 1
        elif "nameless" in note:
            self.requests += 1
            self.nameless += 1
            self.seen[f"{note['nameless']}: {note['saw']}"] += 1
        else:
            least, most = note["hostile"]
            self.hostile_least, self.hostile_most = self.hostile_least + least, self.hostile_most + most
            self.seen[f"{note['kind']}: {note['saw']}"] += 1

    def take_line(self, line):
        if "dropped" in line:
            self.complain(f"the access log dropped {line['dropped']} lines")
            return
        self.logged += 1
        self.outcomes[f"{line['listener']} {line['reason']} {line['ending']}"] += 1
        if line["listener"] == "hostile":
            self.hostile_lines += 1
            return
        identity = identity_of(line["target"])
        if identity is None:
            self.nameless -= 1
        else:
            self.lines[identity].append((line["status"], line["ending"]))

    def settle(self, identity):
        """A request with a note and one line at least. Lines that are written twice come together, or are found at the
        end as lines of no request."""
        (saw, least, most, status), lines = self.notes.pop(identity), self.lines.pop(identity)
        if len(lines) > most or len(lines) < least:
            self.complain(f"{identity} saw {saw} and has {len(lines)} lines, not {least} to {most}: {lines}")
        elif status is not None and lines[0][0] != status:
            self.complain(f"{identity} saw status {status}, its line says {lines[0]}")

    def close(self):
        """The last accounts: the clients have ended, and so has the program."""
        self.read()
        for identity, (saw, least, _, _) in self.notes.items():
            self.unlogged += 1
            if least > 0:
                self.complain(f"{identity} saw {saw} and has no line")
        for identity, lines in self.lines.items():
            self.complain(f"{identity} has lines that nobody asked for: {lines}")
        if self.nameless != 0:
            self.complain(f"{self.nameless} more requests than lines are without an id")
        if not self.hostile_least <= self.hostile_lines <= self.hostile_most:
            self.complain(
                f"the hostile listener has {self.hostile_lines} lines, not {self.hostile_least} to {self.hostile_most}"
            )
