"""The HTTP API: jobs are kept in a queue, and made by workers that are processes of their own.

app         what clients talk to (`create_app`); it never touches a model
queue       the jobs, in SQLite, so that they outlive whatever crashes
supervisor  starts workers, tells them of new jobs, and starts them anew when they end
worker      a process for each device that owns the models
"""
