"""Remote MCP servers, reached with the official client library. Nothing else imports that."""
