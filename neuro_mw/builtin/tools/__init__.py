"""What tool_guard is made of: the tools of a request, their schemas, and the calls of an answer."""
