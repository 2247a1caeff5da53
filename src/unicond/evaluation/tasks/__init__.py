"""`unicond table tasks`: the tasks that users name, on exact truth, a file a group."""
