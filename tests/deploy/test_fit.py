"""Whether a host is fit: `dync doctor` and `dync install` say the same, and name the same thing."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import types
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from compiler.cli.main import dync
from compiler.deploy.deployment import Manager
from compiler.deploy.doctor import already, gpus, host_memory, ports
from compiler.deploy.doctor.already import running_units, subject_of_launch, subject_of_units
from compiler.deploy.doctor.examine import Phase, examine
from compiler.deploy.doctor.stack import check_parts
from compiler.deploy.doctor.subject import Subject
from compiler.deploy.finding import Finding, Verdict
from compiler.deploy.install.install import Choices, install
from compiler.deploy.install.requirements import refuse_unfit
from compiler.deploy.installation import Host, Installation, user_host
from compiler.deploy.probe.processes import Running
from compiler.emit.bundle import emit
from compiler.errors import HostError
from compiler.library import known_stack, load_stack, templates
from compiler.plan import Plan
from compiler.process import Kind, Process
from compiler.write.bundle import write
from tests.deploy import test_doctor
from tests.proxy.conftest import make_certificate
from tests.stand_in_stack import fill_site, pinned, write_program
from tests.support import AGG, free_port, free_ports, plan_of, with_launch

nvml = test_doctor.nvml  # its fixture
STACK = load_stack("vllm-0.32")
ACCOUNT = "daemon"
THIRD = 12345
PROFILE = """\
name: fit
stack: vllm-0.32
topology: agg
accelerator: cpu
lmcache: {chunk_size: 128}
workers: [{role: aggregated}]
"""


# ---- hosts of this machine


@dataclass
class Made:
    """A host that is fit, and what a test spoils of it before the bundle is built."""

    folder: Path
    tiers: str = ""
    user: str = ACCOUNT
    cache_gb: float = 0.015625
    tls: tuple[Path, Path] | None = None
    changes: Callable[[Process], Process] = lambda process: process
    spoils_bundle: Callable[[Path], None] = lambda _: None

    @property
    def small(self) -> Path:
        """Return a mounted tmpfs of 4 MiB."""
        return self.folder / "small"

    @property
    def prefix(self) -> Path:
        return self.folder / "prefix"

    @property
    def stack(self) -> Path:
        return self.prefix / "stacks" / STACK.name

    @property
    def model(self) -> Path:
        return self.folder / "model"

    @property
    def key(self) -> Path:
        return self.folder / "key"

    @property
    def host(self) -> Host:
        """Return the system's manager of this machine, with folders that are the test's."""
        return Host(
            root=Path("/"),
            is_system=True,
            config=self.folder / "etc",
            units=self.folder / "units",
            overrides=self.folder / "overrides",
            state=self.folder / "state",
            cache=self.folder / "cache",
        )

    def plan(self, change: Callable[[Process], Process] | None = None) -> Plan:
        change = change or self.changes
        names = ("certificate", "key") if self.tls else ()
        tls = zip(names, self.tls or (), strict=True)
        plan = plan_of(
            PROFILE,
            f"model.id={self.model}",
            f"deploy.prefix={self.prefix}",
            f"deploy.user={self.user}",
            f"frontend.api_key_file={self.key}",
            f"lmcache.cpu_cache_gb={self.cache_gb}",
            f"lmcache.tiers=[{self.tiers}]",
            *(f"frontend.tls.{name}={file}" for name, file in tls),
        )
        return replace(plan, processes=tuple(map(change, map(with_free_ports, plan.processes))))


def with_free_ports(process: Process) -> Process:
    """Return a process on ports of its own; a store is given its by the profile."""
    if process.kind is Kind.STORE:
        return process
    found = free_ports(len(process.listens))
    listens = zip(process.listens, found, strict=True)
    return replace(process, listens=tuple(replace(item, port=port) for item, port in listens))


@pytest.fixture
def made() -> Iterator[Made]:
    """Make a host that is fit, in a folder that every account may enter."""
    if os.geteuid() != 0:
        pytest.skip("only root mounts, and asks what another account may do")
    with tempfile.TemporaryDirectory(prefix="dync-fit-") as place:
        folder = Path(place)
        folder.chmod(0o755)
        found = Made(folder)
        fill_site(found.stack / "site", pinned(STACK, "cpu"), STACK.platforms["cpu"].imports)
        write_program(found.stack / "bin" / "python", found.stack / "site")
        found.model.mkdir()
        (found.model / "config.json").write_text("{}")
        (found.model / "model.safetensors").write_bytes(b"0" * 1000)
        found.key.write_text("a key\n")
        found.small.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=4m,mode=755", "dync-test", str(found.small)]
        subprocess.run(mount, check=True)
        try:
            yield found
        finally:
            subprocess.run(["umount", str(found.small)], check=True)


def on_tmpfs(kind: str) -> Callable[[Made], None]:
    def spoil(made: Made) -> None:
        made.tiers = f"{{{kind}: {{path: {made.small}/kv, size_gb: 0.001}}}}"

    return spoil


def without_model(made: Made) -> None:
    shutil.rmtree(made.model)


def with_closed_weights(made: Made) -> None:
    (made.model / "model.safetensors").chmod(0o600)


def without_weights(made: Made) -> None:
    (made.model / "model.safetensors").unlink()


def without_stack(made: Made) -> None:
    shutil.rmtree(made.stack)


def with_closed_stack(made: Made) -> None:
    made.prefix.chmod(0o700)


def without_key(made: Made) -> None:
    made.key.unlink()


def with_an_odd_key(made: Made) -> None:
    made.key.write_text("two\nlines\n")


def without_password(made: Made) -> None:
    made.tiers = managed(f"password_file: {made.folder}/none")


def managed(*options: str) -> str:
    words = ("managed: true", "size_gb: 0.1", f"port: {free_port()}", *options)
    return f"{{redis: {{{', '.join(words)}}}}}"


def without_account(made: Made) -> None:
    made.user = "dync-is-not-here"


def without_share(made: Made) -> None:
    made.tiers = f"{{fs: {{path: {made.folder}/nfs}}}}"


def with_a_tier_of_the_owner(made: Made) -> None:
    made.tiers = f"{{disk: {{path: {made.folder}/kv, size_gb: 0.02}}}}"
    (made.folder / "kv" / "lmcache").mkdir(parents=True)


def with_a_tier_below_a_closed_folder(made: Made) -> None:
    made.tiers = f"{{disk: {{path: {made.folder}/closed/kv, size_gb: 0.02}}}}"
    (made.folder / "closed").mkdir(0o700)


def with_a_tier_behind_a_link_to_the_system(made: Made) -> None:
    made.tiers = f"{{disk: {{path: {made.folder}/link/kv, size_gb: 0.02}}}}"
    (made.folder / "link").symlink_to("/etc")


def with_a_tier_below_another_accounts_folder(made: Made) -> None:
    made.tiers = f"{{disk: {{path: {made.folder}/theirs/kv, size_gb: 0.02}}}}"
    (made.folder / "theirs").mkdir()
    os.chown(made.folder / "theirs", THIRD, THIRD)


def with_a_stack_of_another_account(made: Made) -> None:
    os.chown(made.stack / "bin", THIRD, THIRD)


def with_a_stack_that_a_group_writes(made: Made) -> None:
    made.stack.chmod(0o775)


def with_a_bundle_of_another_account(made: Made) -> None:
    made.spoils_bundle = lambda bundle: os.chown(bundle / "lib", THIRD, THIRD)


def with_a_bundle_that_all_write(made: Made) -> None:
    made.spoils_bundle = lambda bundle: (bundle / "launch.sh").chmod(0o777)


def with_a_long_key(made: Made) -> None:
    made.key.write_text("k" * 600)


def with_a_certificate_of_another_key(made: Made) -> None:
    certificate, _ = make_certificate(made.folder)
    other = made.folder / "other"
    other.mkdir()
    made.tls = (certificate, make_certificate(other)[1])


def with_a_certificate_that_is_over(made: Made) -> None:
    made.tls = make_certificate(made.folder)
    certificate, key = map(str, made.tls)
    sign = ["openssl", "x509", "-days", "-1", "-in", certificate, "-signkey", key]
    subprocess.run([*sign, "-out", certificate], check=True, capture_output=True)


def without_nginx(made: Made) -> None:
    made.changes = without_programs


def without_programs(process: Process) -> Process:
    if process.kind is not Kind.PROXY:
        return process
    return with_launch(process, env={**process.env, "PATH": "/nowhere"})


def with_a_large_tier(made: Made) -> None:
    made.tiers = f"{{disk: {{path: {made.folder}/kv, size_gb: 10000000}}}}"


def with_another_release(made: Made) -> None:
    shutil.rmtree(made.stack / "site")
    versions = {**pinned(STACK, "cpu"), "lmcache": "0.5.3"}
    fill_site(made.stack / "site", versions, STACK.platforms["cpu"].imports)


def with_a_large_cache(made: Made) -> None:
    made.cache_gb = 90000


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong; is_for_account: whoever runs launch.sh as root sees none of it."""

    spoil: Callable[[Made], None]
    says: str
    phase: Phase = Phase.PLACE
    is_for_account: bool = False


FAULTS = {
    "disk tier on tmpfs": Fault(on_tmpfs("disk"), "is on tmpfs, which a tier of kind disk cannot"),
    "nixl tier on tmpfs": Fault(on_tmpfs("nixl"), "is on tmpfs, which a tier of kind nixl cannot"),
    "gds tier without direct I/O": Fault(
        on_tmpfs("gds"), "is on tmpfs, which a tier of kind gds cannot use"
    ),
    "no model folder": Fault(without_model, "there is no model folder "),
    "model closed to the account": Fault(
        with_closed_weights, f"the account {ACCOUNT} cannot read ", is_for_account=True
    ),
    "model without weights": Fault(without_weights, "has no weights"),
    "no stack": Fault(without_stack, "there is no stack at "),
    "stack closed to the account": Fault(
        with_closed_stack, f"the account {ACCOUNT} cannot run ", is_for_account=True
    ),
    "no key file": Fault(without_key, "there is no file "),
    "key that no client can send": Fault(with_an_odd_key, "is not one line of printable ASCII"),
    "no password file": Fault(without_password, " (password_file of a tier)"),
    "no account": Fault(
        without_account, "there is no account dync-is-not-here", is_for_account=True
    ),
    "no shared folder": Fault(without_share, "/nfs of the tier fs"),
    "tier of another account": Fault(
        with_a_tier_of_the_owner, f"the account {ACCOUNT} cannot write ", is_for_account=True
    ),
    "tier below a closed folder": Fault(
        with_a_tier_below_a_closed_folder,
        f"the account {ACCOUNT} cannot reach ",
        is_for_account=True,
    ),
    "tier behind a link to the system": Fault(
        with_a_tier_behind_a_link_to_the_system, "/kv/lmcache leads to /etc/kv/lmcache, which is"
    ),
    "tier below another account's folder": Fault(
        with_a_tier_below_another_accounts_folder, f"/theirs/kv/lmcache, belongs to {THIRD}, who"
    ),
    "stack of another account": Fault(
        with_a_stack_of_another_account, f"/bin (owner {THIRD}, mode 0755"
    ),
    "stack that a group writes": Fault(
        with_a_stack_that_a_group_writes, f"stacks/{STACK.name} (owner root, mode 0775"
    ),
    "bundle of another account": Fault(
        with_a_bundle_of_another_account, f"bundle/lib (owner {THIRD}, mode 0755"
    ),
    "bundle that all write": Fault(
        with_a_bundle_that_all_write, "bundle/launch.sh (owner root, mode 0777"
    ),
    "key longer than the proxy reads": Fault(with_a_long_key, "is longer than 512 bytes"),
    "certificate of another key": Fault(
        with_a_certificate_of_another_key, "are no certificate and its key: "
    ),
    "certificate that is over": Fault(with_a_certificate_that_is_over, "clients refuse it: "),
    "no nginx": Fault(without_nginx, "there is no nginx"),
    "tier larger than its disk": Fault(with_a_large_tier, " may grow by 1e+07 GiB, and "),
    "another release in the stack": Fault(
        with_another_release, "0.5.3, wanted 0.5.6", phase=Phase.START
    ),
    "cache larger than the memory": Fault(
        with_a_large_cache, "the plan's caches take 90000.0 GiB, ", phase=Phase.START
    ),
}


def built(plan: Plan, folder: Path) -> Path:
    write(emit(plan, templates()), folder / "bundle")
    return folder / "bundle"


def doctor(*words: str) -> tuple[int, list[str]]:
    """Run `dync doctor`; return its status and the lines of what it says must be fixed."""
    done = CliRunner().invoke(dync, ["doctor", *words, "--format", "json"])
    found = json.loads(done.stdout)
    assert (done.exit_code == 0) == found["fit"]
    findings = (
        Finding(**{**item, "verdict": Verdict(item["verdict"])}) for item in found["findings"]
    )
    return done.exit_code, [item.line for item in findings if item.verdict is Verdict.FAIL]


def refusal(action: Callable[[], None]) -> list[str]:
    """Return the lines that a refusal names; none where it is done."""
    try:
        action()
    except HostError as error:
        return str(error).split("\n  ")[1:]
    return []


def places(bundle: Path, plan: Plan, host: Host) -> list[str]:
    """Put a bundle in place as `dync install --no-start` does; return what that refuses."""
    stack = known_stack(plan.stack)
    say = lambda _: None  # noqa: E731 -- what it says is not looked at
    return refusal(lambda: install(bundle, host, Choices(start=False), say, stack=stack))


def starts(bundle: Path, plan: Plan, host: Host) -> list[str]:
    """Return what `dync install` refuses where it is to start, too."""
    subject = subject_of_units(plan, known_stack(plan.stack), bundle, host)
    return refusal(lambda: refuse_unfit(subject, starts=True))


def test_a_fit_host_is_fit_for_both(made: Made) -> None:
    made.tiers = f"{{disk: {{path: {made.folder}/kv, size_gb: 0.02}}}}"
    plan = made.plan()
    bundle = built(plan, made.folder)
    assert doctor(str(bundle)) == (0, [])
    assert doctor(str(bundle), "--install") == (0, [])
    assert starts(bundle, plan, made.host) == []
    assert places(bundle, plan, made.host) == []
    assert Installation(host=made.host, name="fit").current == 1
    assert doctor(str(bundle), "--install") == (0, []), "also of the folders that it made"


def naming(lines: list[str], says: str) -> list[str]:
    """Return the lines that say something, up to its end: what is free changes meanwhile."""
    return [line[: line.index(says) + len(says)] for line in lines if says in line]


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_one_for_both(name: str, made: Made) -> None:
    fault = FAULTS[name]
    fault.spoil(made)
    plan = made.plan()
    bundle = built(plan, made.folder)
    made.spoils_bundle(bundle)
    status, of_units = doctor(str(bundle), "--install")
    found = naming(of_units, fault.says)
    assert (status, len(found)) == (1, 1)
    assert naming(starts(bundle, plan, made.host), fault.says) == found
    refused = places(bundle, plan, made.host)
    if fault.phase is Phase.PLACE:
        assert (naming(refused, fault.says), len(refused)) == (found, len(of_units))
        assert not made.host.config.exists()
    else:
        assert refused == []
    status, of_launch = doctor(str(bundle))
    assert naming(of_launch, fault.says) == ([] if fault.is_for_account else found)
    assert status == (0 if fault.is_for_account else 1)


def without_redis(process: Process) -> Process:
    folders = {"PATH": "/nowhere"} if process.kind is Kind.STORE else {}
    return with_launch(process, env={**process.env, **folders})


def test_a_managed_redis_needs_its_program(made: Made) -> None:
    made.tiers = managed()
    plan = made.plan(without_redis)
    bundle = built(plan, made.folder)
    line = "there is no redis-server: apt install redis-server, or dnf install redis"
    assert doctor(str(bundle), "--install") == (1, [line])
    assert doctor(str(bundle)) == (1, [line])
    assert places(bundle, plan, made.host) == [line]


def test_all_that_is_wrong_is_named_at_once(made: Made) -> None:
    for spoil in (without_model, without_key, with_a_large_tier, with_another_release):
        spoil(made)
    plan = made.plan()
    bundle = built(plan, made.folder)
    _, said = doctor(str(bundle), "--install")
    assert len(said) == 4
    assert sorted(starts(bundle, plan, made.host)) == sorted(said)
    assert len(places(bundle, plan, made.host)) == 3


def test_what_only_a_start_needs_can_be_put_off(made: Made) -> None:
    with_another_release(made)
    plan = made.plan()
    bundle = built(plan, made.folder)
    assert starts(bundle, plan, made.host)[-1] == "or put it in place only: --no-start"


def test_a_port_of_another_program_is_no_matter_before_a_start(made: Made) -> None:
    plan = made.plan()
    bundle = built(plan, made.folder)
    item = plan.processes[0].listens[0]
    with socket.create_server(("127.0.0.1", item.port)):
        status, said = doctor(str(bundle), "--install")
        assert status == 1
        assert [line for line in said if f"port {item.port}: " in line] == said
        assert starts(bundle, plan, made.host)[:1] == said
        assert places(bundle, plan, made.host) == []


def test_a_users_own_manager_needs_no_account(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    without_account(made)
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(made.folder / "home"))
    plan = made.plan()
    bundle = built(plan, made.folder)
    assert doctor(str(bundle), "--user") == (0, [])
    assert starts(bundle, plan, user_host(os.environ)) == []


def test_a_plan_of_a_stack_that_is_not_of_this_release(made: Made) -> None:
    """Nothing is known of its tiers then, and nothing is refused for it."""
    on_tmpfs("disk")(made)
    plan = replace(made.plan(), stack="vllm-9.9")
    bundle = built(plan, made.folder)
    assert doctor(str(bundle), "--install") == (0, [])
    assert places(bundle, plan, made.host) == []


# ---- images


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Return an image with the account, a stack's program, a store's, a model and a key."""
    root = tmp_path / "image"
    (root / "etc").mkdir(parents=True)
    (root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\ndync:x:999:999::/:/bin/sh\n")
    programs = ("opt/dync/stacks/vllm-0.32/bin/python", "usr/bin/redis-server", "usr/sbin/nginx")
    for path in programs:
        (root / path).parent.mkdir(parents=True)
        (root / path).symlink_to("/usr/bin/true")
    (root / "srv/model").mkdir(parents=True)
    (root / "mnt/nfs").mkdir(parents=True)
    (root / "etc/key").write_text("a key\n")
    return root


def run(command: str, image: Path, *words: str) -> Result:
    return CliRunner().invoke(dync, [command, *words, "--root", str(image)])


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Build a plan for GPUs, of which this machine has none, with a tier of each sort."""
    tiers = "{disk: {path: /var/kv, size_gb: 100}}, {fs: {path: /mnt/nfs}}"
    store = "{redis: {managed: true, size_gb: 40}}"
    plan = plan_of(
        AGG,
        "model.id=/srv/model",
        "frontend.api_key_file=/etc/key",
        f"lmcache.tiers=[{tiers}, {store}]",
    )
    return built(plan, tmp_path)


def test_an_image_is_asked_for_files_alone(
    image: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no GPUs, memory or ports; whoever asks for them here would ask another machine."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert doctor(str(bundle), "--root", str(image)) == (0, [])
    done = run("install", image, str(bundle))
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("etc/passwd", "there is no account dync (deploy.user): give --create-user"),
        ("opt/dync", "there is no stack at /opt/dync/stacks/vllm-0.32/bin/python: dync stack "),
        ("usr/bin", "there is no redis-server: "),
        ("usr/sbin", "there is no nginx: apt install nginx-light, or dnf install nginx"),
        ("srv/model", "there is no model folder /srv/model (model.id): "),
        ("mnt/nfs", "there is no folder /mnt/nfs of the tier fs: mount it first"),
        ("etc/key", "there is no file /etc/key (frontend.api_key_file): write the key there"),
    ],
)
def test_what_an_image_lacks_is_one_for_both(
    path: str, says: str, image: Path, bundle: Path
) -> None:
    gone = image / path
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    status, [line] = doctor(str(bundle), "--root", str(image))
    assert status == 1
    assert line.startswith(says)
    done = run("install", image, str(bundle))
    assert done.exit_code == 1
    assert f"this host is not ready for one:\n  {line}\n" in done.output


# ---- a deployment that runs already


def as_running(plan: Plan) -> Subject:
    """Return an upgrade of a deployment that runs as it is."""
    return Subject(
        plan=plan,
        stack=STACK,
        folder=Path("/"),
        manager=Manager.SYSTEMD,
        running=plan.processes,
    )


def failures(found: Iterator[Finding]) -> list[Finding]:
    return [finding for finding in found if finding.verdict is Verdict.FAIL]


def test_of_a_stack_in_use_only_the_versions_are_read(made: Made) -> None:
    """Loading every part takes seconds of the cores that serve."""
    (made.stack / "site" / "vllm.py").write_text("raise ImportError('no such symbol')")
    plan = made.plan()
    upgrade = subject_of_units(plan, STACK, made.folder, made.host)
    [finding] = failures(check_parts(upgrade))
    assert finding.subject == "import vllm"
    upgrade = replace(upgrade, running=plan.processes)
    assert not failures(check_parts(upgrade))
    with_another_release(made)
    [finding] = failures(check_parts(upgrade))
    assert finding.message == "0.5.3, wanted 0.5.6"


def test_ports_that_run_already_are_no_fault() -> None:
    """By whatever argv: some programs write over their own."""
    plan = plan_of(PROFILE, "model.id=a/b")
    plan = replace(plan, processes=tuple(map(with_free_ports, plan.processes)))
    with ExitStack() as held:
        for process in plan.processes:
            for item in process.listens:
                held.enter_context(socket.create_server(("127.0.0.1", item.port)))
        upgrade = as_running(plan)
        found = list(ports.check(upgrade))
        assert {finding.verdict for finding in found} == {Verdict.WARN}
        assert all("this deployment runs there already" in item.message for item in found)
        assert len(failures(ports.check(replace(upgrade, running=())))) == len(found)


def test_memory_that_runs_already_is_no_fault() -> None:
    upgrade = as_running(plan_of(PROFILE, "model.id=a/b", "lmcache.cpu_cache_gb=40000"))
    assert not failures(host_memory.check(upgrade))
    [finding] = failures(host_memory.check(replace(upgrade, running=())))
    assert finding.check == "memory"
    more = plan_of(PROFILE, "model.id=a/b", "lmcache.cpu_cache_gb=90000")
    [finding] = failures(host_memory.check(replace(upgrade, plan=more)))
    assert "beside the 40000.0 GiB of what runs already" in finding.message


def test_gpus_that_run_already_are_no_fault(nvml: test_doctor.Nvml) -> None:
    nvml.free = 2 << 30
    nvml.holders = [types.SimpleNamespace(pid=os.getpid())]
    plan = plan_of(AGG, "workers[0].gpus=[1]")
    upgrade = as_running(plan_of(AGG, "workers[0].gpus=[GPU-b]"))
    upgrade = replace(upgrade, plan=plan)
    assert not failures(gpus.check(upgrade)), "by its index or by its UUID"
    assert len(failures(gpus.check(replace(upgrade, running=())))) == 1
    elsewhere = plan_of(AGG, "workers[0].gpus=[0]")
    assert len(failures(gpus.check(replace(upgrade, plan=elsewhere)))) == 1


def test_an_engines_core_is_its_workers_own(nvml: test_doctor.Nvml) -> None:
    """It writes over its argv, and is a child of what was started."""
    own = tuple(Path("/proc/self/cmdline").read_text("utf-8").split("\0")[:-1])
    plan = plan_of(AGG)
    worker = next(item for item in plan.processes if item.kind is Kind.WORKER)
    with subprocess.Popen(["sleep", "60"]) as core:
        try:
            nvml.holders = [types.SimpleNamespace(pid=core.pid)]
            seen = as_running(plan)
            assert "used by pid" in list(gpus.check(seen))[1].message
            seen = replace(seen, running=(with_launch(worker, argv=own),))
            assert list(gpus.check(seen))[1].verdict is Verdict.PASS
        finally:
            core.kill()


SYSTEMCTL = """\
#!/bin/sh
case "$*" in *Version*) exit 0 ;; esac
while [ "$1" != -- ]; do shift; done
shift
for unit; do
    case "$unit" in *lmcache*) pid=7 active=active ;; *) pid=0 active=inactive ;; esac
    printf 'Id=%s\\nActiveState=%s\\nMainPID=%s\\n\\n' "$unit" "$active" "$pid"
done
"""


@pytest.mark.parametrize("is_readable", [True, False])
def test_what_runs_is_read_from_the_present_generation(
    made: Made, is_readable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of another release's plan, which cannot be read, the new one's processes count."""
    old, new = made.plan(), made.plan()
    assert running_units(new, made.host) == ()
    assert places(built(old, made.folder), old, made.host) == []
    present = made.host.config / "fit" / "current" / "plan.json"
    if not is_readable:
        present.write_text('{"format": 0}')
    (made.folder / "bin").mkdir()
    (made.folder / "bin" / "systemctl").write_text(SYSTEMCTL)
    (made.folder / "bin" / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{made.folder}/bin:{os.environ['PATH']}")
    [process] = running_units(new, made.host)
    assert process.name == "lmcache"
    assert process.listens == (old if is_readable else new).processes[0].listens


def test_a_launch_that_runs_already_is_found_by_its_ports(made: Made) -> None:
    own = tuple(Path("/proc/self/cmdline").read_text("utf-8").split("\0")[:-1])
    plan = made.plan(lambda process: with_launch(process, argv=own))
    item = plan.processes[0].listens[0]
    with socket.create_server(("127.0.0.1", item.port)):
        subject = subject_of_launch(plan, STACK, made.folder)
    assert subject.running == plan.processes[:1]


def test_a_program_that_wrote_over_its_arguments_is_not_alone_an_own_one(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As vllm-router does."""
    first, *others = plan_of(PROFILE, "model.id=a/b", "workers[0].replicas=2").processes
    router = others[-1]
    plan = replace(made.plan(), processes=(first, *others))
    argvs: dict[str, tuple[str, ...]] = {router.name: ("vllm::router",)}
    alive = lambda _: {name: a_process(argv) for name, argv in argvs.items()}  # noqa: E731
    monkeypatch.setattr(already, "running", alive)
    assert already.running_launch(plan) == ()
    argvs[first.name] = first.argv
    assert already.running_launch(plan) == (first, router)


def a_process(argv: tuple[str, ...]) -> Running:
    return Running(pid=7, argv=argv, folder=None, environment=None, started_s=0.0)


def test_every_row_of_the_table_is_asked_somewhere(made: Made) -> None:
    """What launch.sh alone needs is not asked of units, nor what units alone need of it."""
    plan = made.plan()
    of_launch = {
        item.check for item in examine(subject_of_launch(plan, STACK, made.folder)).findings
    }
    subject = subject_of_units(plan, STACK, made.folder, made.host)
    of_units = {item.check for item in examine(subject).findings}
    assert of_launch - of_units == {"limits", "disk"}
    assert of_units - of_launch == {"account"}
