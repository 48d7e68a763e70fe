"""System calls as MCP tools: over HTTP for all agents of a kernel, over stdio in ``agenttop mcp``.

``tools.py`` says what there is, ``answers.py`` what is given back, ``server.py`` makes an MCP server of it,
``http.py`` and ``door.py`` let agents reach it.
"""
