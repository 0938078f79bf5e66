"""Capture: run a command so that every byte it prints is kept, and it does not notice.

Two processes do it. The **guard** is the process the user started and the parent of CMD: it passes
on signals, waits, and gives CMD's exit code. The **pump**, its fork in a session of its own, moves
bytes: CMD's pipe -> spool -> the user's own stdout or stderr. Both hold the read ends, so the
death of either never breaks CMD's pipe. State that must outlive a pump lies in shared memory
(`board`), so the guard can fork a new one that goes on at the very byte.

What holds
- A byte is spooled first, with the time of its read, then copied on unchanged and at once. SIGKILL
  of the pump at any instruction repeats and loses nothing, on either side (see `source`).
- After three deaths the guard copies to the terminal alone; what it copies is a gap in the streams.
- A pump whose guard was killed goes on until the last process has closed the pipes; its streams
  then end as "lost", because nobody knows CMD's exit code.
- No fault of ours (full spool, home that cannot be written) ends, fails or slows CMD. It is told in
  the execution log, and nowhere in CMD's output.

Choices, where a user could expect one or the other
- A blocked reader (Ctrl-S, `| less`) blocks CMD once the pipes are full, as without us, only later:
  spooling runs up to 1 MiB ahead of the reader (64 KiB of a terminal), and CMD's own pipe holds
  more. Each stream is held up by its own reader only.
- A reader that has gone (`| head`): what the pipe or pty holds is still spooled, then the stream is
  closed, so CMD gets its SIGPIPE (EIO of a pty) as without us; of what it writes until then nothing
  is lost. A terminal that has gone (EIO) does not: CMD goes on, and is captured. A full disk below
  the user's own file: capture goes on, and the execution log says so.
- Processes that outlive CMD and hold its output: the guard returns when CMD has ended and nothing
  came for a second, at most 60 s after CMD. The pump goes on for these 60 s, then ends the
  streams; later bytes still reach the terminal, but belong to no run.
- A keyboard's signals reach CMD from the kernel and are not doubled; those sent by a process to the
  guard are passed on. A process that signals the whole group is not told apart: CMD gets two.
- A new window size: the kernel tells CMD before its ptys have that size, so it is told again when
  they have. It looks twice, the second time at what is true.
- The pump is in a session of its own: Ctrl-C and `kill -9 -PGID` do not hit it, and what the kernel
  had accepted is still kept.
"""
