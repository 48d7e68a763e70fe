"""Where agents work: the folder given, or a git worktree and branch of their own."""
