"""The hospital's long-lived process and the commands around it: settings, enrolment, approval, service, stop.

Start with ``settings.py`` (the file an administrator writes) and ``service.py`` (what `fedward client run` does).
``approvals.py`` decides what may run, ``folders.py`` holds keys and paths, ``doctor.py`` examines all of it.
"""
