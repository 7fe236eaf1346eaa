"""The console: a page for people, what it asks the gateway, and what the gateway keeps for it while somebody looks."""
