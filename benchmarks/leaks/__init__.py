"""`make leakbench`: leaks that must not pass, and models that must, as real jobs through the real gate.

people.py      the private table with its canaries        score.py      what a decoder recovered
attacks/       a file each: the script that leaks, and the decoder that reads it back
honest/        a file each: a script that leaks nothing
inside/        what goes into the job's code folder besides
cases.py       finds both                                 let_out.py    what a gate let out
open_gate.py   runs a script where nobody is at the gate: each attack's proof
real_gate.py   runs it as a job: hub, agent, sandbox, intake, judge
attempts.py    one attack, twice                          honesty.py    one honest model
outcome.py     verdicts                                   report.py     lines, RESULTS.md, RESULTS.json

Everything is tried inside a run envelope, where only what the gate sees in an
output can stop it; attacks on weights are tried outside of one too.
"""
