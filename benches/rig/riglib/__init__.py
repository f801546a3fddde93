"""The load rig.

cli        the command line
scenario   what is asked of a proxy: S1 to S8, and the bytes of their requests
contender  one proxy: how it is started, learnt from and stopped
fleet      clusters of many hosts, for the contenders' configurations
bench      runs and rounds: who is measured when, and what a run yields
startup    the startup sub-command
probe      the syscalls and profile sub-commands
report     results as Markdown
system     processes and /proc
"""
