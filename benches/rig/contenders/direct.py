"""No proxy: the load generator straight to a backend. Its rate bounds what the rig can measure."""

DESCRIPTION = "no proxy at all: what the load generator and the backend manage by themselves"
TOKEN = "none"
DIRECT = True
