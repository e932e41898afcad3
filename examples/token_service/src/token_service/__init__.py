"""Checks authentication tokens.

`tokens` issues and checks them, `server` does that as a gRPC service, and `client` asks the service, on a stream that it
opens again whenever it is lost. The commands `token-server` and `token-client` are made of these.
"""

# Characters of a token: ours have about 350. What is longer is none, and is not looked at.
LONGEST_TOKEN = 8192
