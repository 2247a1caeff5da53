"""The page of the Studio: what the command line asks for, by hand, in a browser.

It sends the same forms to the same desk as the API (`unicond.studio.desk`), and shows what comes
of them. Each part of it is two things: plain functions between what stands on the page and a form,
and the components that they read and fill.

blocks     all of it, and how the app gets it (`install`)
told       a form as plain values with pictures, and back
kept       what a form said beyond what the page shows
recorded   the settings inside a PNG as such values
drawing    plans, boxes and progress as SVG and HTML
fields     what a field of a form looks like; `more` makes them of the form itself
tabs       the fields of each task
slots      the branches of a model, each given, made or left out
handlers   between the fields and jobs
watching   jobs that go on, and those of before
running    from a form to what is shown while and when it is made
"""
