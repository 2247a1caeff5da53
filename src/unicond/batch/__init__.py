"""A manifest of many jobs, each made once: `unicond generate --batch`.

manifest    reads a file of forms, and refuses it before anything is loaded
folder      what was made of each row, so that a second run makes only what is missing
maker       a model that is loaded once and makes rows
engines     where they are made: in this process, or
on_ray      by actors of Ray
"""
