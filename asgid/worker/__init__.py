"""The worker: an event loop around an asyncio.Protocol. It never imports the master."""
