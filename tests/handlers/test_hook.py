"""The hook in real interpreters: an unmodified script's records arrive, its output is its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from loghaul.tap import hook_folder

OTHERS = [
    Path("/root/.pyenv/versions"), Path.home() / ".pyenv/versions", Path("/opt/python"),
]  # fmt: skip


def _interpreters() -> dict[str, str]:
    found = {"this": sys.executable}
    for folder in OTHERS:
        for python in sorted(folder.glob("3.*/bin/python")):
            version = tuple(int(part) for part in re.findall(r"\d+", python.parts[-3])[:2])
            if version >= (3, 9):
                found[".".join(map(str, version))] = str(python)
    return found


INTERPRETERS = _interpreters()
pythons = pytest.mark.parametrize("python", INTERPRETERS.values(), ids=INTERPRETERS.keys())


@pytest.fixture
def run(tmp_path: Path, writers_of):
    """Run a script with the hook (or without) and return its output and what was captured."""

    def run(
        script: str, *flags: str, python: str = sys.executable, hook: bool = True, **variables: str
    ) -> Any:
        file = tmp_path / "script.py"
        file.write_text(textwrap.dedent(script))
        home = tmp_path / "home"
        environment = {
            name: value for name, value in os.environ.items()
            if not name.startswith(("LOGHAUL", "PYTHON", "RANK"))
        }  # fmt: skip
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
        if hook:
            environment.update(
                LOGHAUL_HOME=str(home), LOGHAUL_RUN_ID="r", LOGHAUL_PARENT="0" * 32,
                LOGHAUL_SPOOL=str(home / "spool"), PYTHONPATH=str(hook_folder()),
            )  # fmt: skip
        environment.update(variables)
        done = subprocess.run(
            [python, *flags, *([] if flags[-1:] == ("-c",) else [str(file)])]
            + ([textwrap.dedent(script)] if flags[-1:] == ("-c",) else []),
            env=environment, capture_output=True, text=True, timeout=60, cwd=tmp_path,
        )  # fmt: skip
        writers = writers_of(home / "spool")
        events = [event for writer in writers for event in writer["events"]]
        return type("Done", (), {
            "code": done.returncode, "out": done.stdout, "err": done.stderr, "writers": writers,
            "events": events, "messages": [event["message"] for event in events],
            "notes": (home / "client.log").read_text() if (home / "client.log").exists() else "",
        })  # fmt: skip

    return run


UNMODIFIED = """
    import logging, sys, threading, warnings
    logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)
    log = logging.getLogger("sdk.core")
    quiet = logging.getLogger("sdk.quiet")
    quiet.propagate = False
    for step in range(3):
        log.debug("step %d", step)
    quiet.error("nobody prints me")
    log.info("filtered")
    warnings.warn("be careful")
    def work():
        raise ValueError("in a thread")
    thread = threading.Thread(target=work, name="worker")
    thread.start()
    thread.join()
    print("printed")
    class Bad:
        def __str__(self):
            raise RuntimeError("bad")
    log.info("%s", Bad())
    raise LookupError("the end")
"""


@pythons
def test_an_unmodified_scripts_records_arrive_and_its_output_is_as_without_us(run, python) -> None:
    plain = run(UNMODIFIED, python=python, hook=False)
    done = run(UNMODIFIED, python=python)
    assert (done.code, done.out) == (plain.code, plain.out) == (1, plain.out)
    assert re.sub("0x[0-9a-f]+", "", done.err) == re.sub("0x[0-9a-f]+", "", plain.err)
    assert done.messages == [
        "step 0",
        "step 1",
        "step 2",
        "nobody prints me",
        "filtered",
        "UserWarning: be careful",
        "Exception in thread worker: ValueError: in a thread",
        "%s",
        "Uncaught exception: LookupError: the end",
    ]
    (writer,) = writers = done.writers
    assert len(writers) == 1
    (end,) = writer["ends"]
    expected = {"status": "failed", "error.type": "LookupError", "error.message": "the end"}
    assert (end.cause, end.detail) == ("exit", expected)
    assert writer["facts"]["role"] == "process"


@pythons
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_of_multiprocessing_are_writers_that_end_in_order(run, python, method) -> None:
    script = f"""
        import logging, multiprocessing
        def work(number):
            logging.getLogger("child").error("from child %d", number)
        if __name__ == "__main__":
            logging.error("parent")
            context = multiprocessing.get_context("{method}")
            children = [context.Process(target=work, args=(n,)) for n in range(2)]
            [child.start() for child in children]
            [child.join() for child in children]
    """
    done = run(script, python=python)
    assert sorted(done.messages) == ["from child 0", "from child 1", "parent"]
    assert [len(writer["ends"]) for writer in done.writers] == [1, 1, 1]
    assert len({writer["facts"]["process.pid"] for writer in done.writers}) == 3


@pythons
def test_a_python_that_logs_nothing_leaves_nothing_and_loads_next_to_nothing(run, python) -> None:
    script = """
        import sys
        print(sorted({name.partition(".")[2] for name in sys.modules if name[:7] == "loghaul"}))
        print("logging" in sys.modules or "threading" in sys.modules)
    """
    done = run(script, "-c", python=python)
    loaded, others = done.out.splitlines()
    # Some interpreters load `warnings` themselves.
    assert loaded in ("['', 'faults', 'hook']", "['', 'faults', 'hook', 'warned']")
    assert others == run(script, "-c", python=python, hook=False).out.splitlines()[1]
    assert (done.writers, done.err) == ([], "")


@pythons
def test_the_import_path_is_as_without_us_and_the_users_sitecustomize_runs(
    run, python, tmp_path
) -> None:
    users = tmp_path / "users"
    users.mkdir()
    (users / "sitecustomize.py").write_text("print('users own', __name__)\n")
    path = f"{hook_folder()}{os.pathsep}{users}"
    script = "import sys, sitecustomize; print(sitecustomize.__file__); print(sys.path)"
    done = run(script, python=python, PYTHONPATH=path)
    plain = run(script, python=python, hook=False, PYTHONPATH=str(users))
    assert done.out == plain.out
    assert "users own sitecustomize" in done.out


def test_a_broken_sitecustomize_of_the_user_is_told_as_without_us(run, tmp_path) -> None:
    users = tmp_path / "users"
    users.mkdir()
    (users / "sitecustomize.py").write_text("raise ValueError('mine')\n")
    done = run("print(1)", PYTHONPATH=f"{hook_folder()}{os.pathsep}{users}")
    plain = run("print(1)", hook=False, PYTHONPATH=str(users))
    assert (done.out, done.err) == (plain.out, plain.err)


@pythons
def test_our_handler_in_the_script_is_the_same_class_and_a_record_comes_once(run, python) -> None:
    script = """
        import logging, loghaul, sys
        logging.basicConfig(level=10, handlers=[loghaul.Handler(), loghaul.Handler()])
        logging.debug("once")
        assert sys.modules["loghaul.handler"].Handler is loghaul.Handler
    """
    done = run(script, python=python)
    assert (done.code, done.err, done.messages) == (0, "", ["once"])


def test_another_copy_of_loghaul_in_the_process_does_not_take_a_record_twice(run) -> None:
    folder = hook_folder().parent.parent
    script = f"""
        import sys
        for name in [name for name in sys.modules if name.startswith("loghaul")]:
            del sys.modules[name]
        sys.path.insert(0, {str(folder)!r})
        import logging, loghaul
        logging.basicConfig(level=10, handlers=[loghaul.Handler()])
        logging.debug("once")
    """
    assert run(script).messages == ["once"]


@pythons
def test_a_queue_between_logger_and_handler_gives_a_record_once(run, python) -> None:
    script = """
        import logging, logging.handlers, loghaul, queue
        line = queue.Queue()
        logging.basicConfig(level=10, handlers=[logging.handlers.QueueHandler(line)])
        listener = logging.handlers.QueueListener(line, loghaul.Handler())
        listener.start()
        for number in range(5000):
            logging.debug("record %d", number)
        listener.stop()
    """
    done = run(script, python=python)
    assert sorted(done.messages) == sorted(f"record {number}" for number in range(5000))


def test_records_sent_to_another_process_are_taken_where_they_were_made(run) -> None:
    script = """
        import logging, logging.handlers, loghaul, multiprocessing, queue
        def work(line):
            log = logging.getLogger("child")
            log.addHandler(logging.handlers.QueueHandler(line))
            log.error("from the child")
        if __name__ == "__main__":
            context = multiprocessing.get_context("spawn")
            line = context.Queue()
            child = context.Process(target=work, args=(line,))
            child.start()
            record = line.get()
            logging.getLogger(record.name).addHandler(loghaul.Handler())
            logging.getLogger(record.name).handle(record)
            child.join()
            logging.error("parent")
    """
    done = run(script)
    assert sorted(done.messages) == ["from the child", "parent"]


def test_logger_classes_of_the_script_and_lastresort_work_as_ever(run) -> None:
    script = """
        import logging
        class Own(logging.Logger):
            def callHandlers(self, record):
                print("own", record.getMessage())
        class Half(logging.Logger):
            def handle(self, record):
                record.msg = "half " + record.msg
                super().handle(record)
        logging.setLoggerClass(Own)
        logging.getLogger("own").error("x")
        logging.setLoggerClass(Half)
        logging.getLogger("half").warning("to lastResort")
        logging.raiseExceptions = True
        class Broken(logging.Handler):
            def emit(self, record):
                try:
                    raise ValueError("broken")
                except ValueError:
                    self.handleError(record)
        log = logging.getLogger("broken")
        log.addHandler(Broken())
        log.error("seen")
    """
    plain, done = run(script, hook=False), run(script)
    assert (done.out, done.err) == (plain.out, plain.err)
    assert done.messages == ["half to lastResort", "half seen"]


def test_warnings_are_kept_once_however_the_script_shows_them(run) -> None:
    script = """
        import logging, warnings
        warnings.simplefilter("always")
        warnings.warn("plain")
        with warnings.catch_warnings(record=True):
            warnings.warn("caught")
        with warnings.catch_warnings():
            warnings.showwarning = lambda *a, **k: print("mine", a[0])
            warnings.warn("own")
            warnings.showwarning = lambda *a, **k: logging.getLogger("w").warning("logged")
            warnings.warn("hidden")
        logging.captureWarnings(True)
        warnings.warn("captured")
    """
    done = run(script)
    assert done.messages[:3] == ["UserWarning: plain", "UserWarning: own", "logged"]
    assert len(done.messages) == 4 and "captured" in done.messages[3]
    assert done.out == "mine own\n"


def test_an_excepthook_of_the_script_keeps_nothing_from_us(run) -> None:
    script = """
        import sys
        print(sys.excepthook is sys.__excepthook__)
        sys.excepthook = lambda *a: print("mine")
        raise ValueError("kept")
    """
    done = run(script)
    assert (done.out, done.code) == ("True\nmine\n", 1)
    assert done.messages == ["Uncaught exception: ValueError: kept"]
    assert done.writers[0]["ends"][0].detail["error.message"] == "kept"


@pythons
def test_what_a_hook_of_the_script_swallows_far_below_is_kept(run, python) -> None:
    script = """
        import sys
        sys.excepthook = lambda *a: None
        def fail(): raise ValueError("kept")
        def call(): fail()
        call()
    """
    done = run(script, python=python)
    assert (done.code, done.messages) == (1, ["Uncaught exception: ValueError: kept"])


@pythons
def test_an_exception_that_was_caught_and_left_for_a_debugger_is_not_uncaught(run, python) -> None:
    script = """
        import logging, sys
        def fail(): raise ValueError("caught")
        try:
            fail()
        except ValueError as error:  # as pytest and the consoles of Python do
            sys.last_value, sys.last_traceback = error, error.__traceback__.tb_next
        logging.warning("went on")
    """
    done = run(script, python=python)
    assert (done.code, done.messages) == (0, ["went on"])
    assert "error.type" not in done.writers[0]["ends"][0].detail


@pytest.mark.parametrize("flag", ["-S", "-I", "-E"])
def test_an_isolated_python_simply_has_no_hook(run, flag) -> None:
    done = run("import logging; logging.error('x')", flag)
    assert (done.code, done.err, done.writers) == (0, "ERROR:root:x\n", [])


def test_a_home_that_cannot_be_written_changes_nothing_for_the_script(run, tmp_path) -> None:
    (tmp_path / "blocked").write_text("a file where a folder is needed")
    blocked = str(tmp_path / "blocked" / "spool")
    plain = run(UNMODIFIED, hook=False)
    done = run(UNMODIFIED, LOGHAUL_SPOOL=blocked, LOGHAUL_HOME=blocked)
    assert (done.code, done.out) == (plain.code, plain.out)
    assert re.sub("0x[0-9a-f]+", "", done.err) == re.sub("0x[0-9a-f]+", "", plain.err)


def test_the_hook_can_be_switched_off(run) -> None:
    assert run("import logging; logging.error('x')", LOGHAUL_HOOK="false").writers == []


def test_stdout_on_a_pipe_is_buffered_by_lines_unless_asked_not_to(run) -> None:
    script = "import sys; print(sys.stdout.line_buffering, sys.stderr.line_buffering)"
    assert run(script).out == "True True\n"
    assert run(script, LOGHAUL_BUFFERED="true").out == "False True\n"


def test_pytest_runs_as_without_us(run, tmp_path) -> None:
    (tmp_path / "test_users.py").write_text(
        "import logging, warnings\n"
        "def test_log(caplog):\n"
        "    logging.getLogger('a').warning('seen %d', 1)\n"
        "    warnings.warn('quiet')\n"
        "    assert caplog.messages == ['seen 1']\n"
    )
    script = "import pytest, sys; sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', '.']))"
    done = run(script)
    assert (done.code, done.messages) == (0, ["seen 1"])


def test_a_module_run_by_name_is_hooked_too(run, tmp_path) -> None:
    (tmp_path / "users_module.py").write_text("import logging; logging.error('as a module')")
    assert run("", "-m", "users_module").messages == ["as a module"]


@pythons
def test_what_a_signal_handler_logs_amid_the_first_record_is_kept(run, python) -> None:
    # A profile function stands for the signals: it comes at every call, also of our imports.
    done = run(
        """
        import logging, sys
        logging.basicConfig(level=logging.DEBUG)
        said = 0
        def interrupt(frame, event, argument):
            global said
            if event == "call" and "/loghaul/spool/" in frame.f_code.co_filename and said < 2000:
                sys.setprofile(None)
                said += 1
                logging.info("amid")
                sys.setprofile(interrupt)
        sys.setprofile(interrupt)
        logging.info("first %d", 1)
        sys.setprofile(None)
        logging.info("last")
        print(said)
        """,
        python=python,
    )
    said = int(done.out)
    assert said > 5
    assert (done.messages.count("first 1"), done.messages.count("last")) == (1, 1)
    assert done.messages.count("amid") == said


def test_what_is_logged_while_the_interpreter_goes_down_is_kept_in_the_same_attempt(run) -> None:
    done = run(
        """
        import logging
        logging.basicConfig(level=logging.DEBUG)
        class Late:
            def __del__(self):
                logging.warning("unclosed")
        late = Late()
        logging.info("first")
        """
    )
    assert sorted(done.messages) == ["first", "unclosed"]
    first, last = sorted(done.writers, key=lambda writer: writer["facts"]["started"])
    assert last["facts"]["parent"] == first["id"]


@pythons
@pytest.mark.parametrize(
    "script",
    [
        "raise KeyboardInterrupt",
        "import sys; sys.excepthook = lambda *error: None; raise KeyboardInterrupt",
        "import sys, logging; logging.warning('x'); raise KeyboardInterrupt",
        "class Own(KeyboardInterrupt): pass\nraise Own",
        "import sys\ntry: raise KeyboardInterrupt\n"
        "except KeyboardInterrupt: sys.excepthook(*sys.exc_info())",
        "import sys\ntry: raise KeyboardInterrupt\nexcept KeyboardInterrupt: sys.exit(5)",
    ],
)
def test_an_interrupt_ends_python_with_the_code_it_has_without_us(run, python, script) -> None:
    assert run(script, python=python).code == run(script, python=python, hook=False).code


@pythons
def test_the_task_that_logs_is_told_where_records_have_one(run, python) -> None:
    done = run(
        """
        import asyncio, logging, sys
        async def work():
            logging.warning("in a task")
        async def main():
            await asyncio.create_task(work(), name="loader-0")
        asyncio.run(main())
        print(sys.version_info >= (3, 12))
        """,
        python=python,
    )
    (event,) = done.events
    assert event.get("process.task.name") == ("loader-0" if done.out == "True\n" else None)
