"""The HTTP API: jobs are kept in a queue, and made by workers beside it.

app         what clients talk to (`create_app`); it never touches a model
queue       the jobs, in SQLite, so that they outlive whatever crashes
supervisor  starts workers, tells them of new jobs, and starts them anew when they end
engine      what workers are: processes of this machine, or threads with replicas of Ray Serve
worker      takes jobs from the queue and keeps what is made of them
making      the models of a device
"""
