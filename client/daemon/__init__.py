"""The hospital's long-lived process and the commands around it: settings, enrolment, approval, service, stop.

Start with ``settings.py`` (the file an administrator writes) and ``service.py`` (what `fedward client run` does).
``approvals.py`` and ``policy.py`` decide what may run; ``runs.py`` serves exactly that and nothing else.
"""
