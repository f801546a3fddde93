"""The load rig.

cli        the command line
scenario   what is asked of a proxy: S1 to S7, and the bytes of their requests
contender  one proxy: how it is started, learnt from and stopped
bench      runs and rounds: who is measured when, and what a run yields
probe      the syscalls and profile sub-commands
report     results as Markdown
system     processes and /proc
"""
