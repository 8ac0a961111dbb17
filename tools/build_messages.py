"""Builds the package's ROS messages into a virtual environment whose ROS 2 comes from pip wheels.

Lives here: running the rosidl generators on msg/, srv/ and action/, compiling the result with gcc and installing it
beside the environment's other messages, with the package's entry in the ament index, the executables it names and links
to the checkout's launch/, config/ and models/, where `ros2 launch` looks for them. Packages of others that have no
wheel are built the same way from tools/interfaces, each only where it is not installed. Nothing is written into the
source tree and nothing is done when the inputs have not changed. Not here: the colcon build (CMakeLists.txt does that;
there the packages of others come from ROS 2), nor anything a running node needs.

    .venv/bin/python tools/build_messages.py [--force] [--check]
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import importlib.util
import io
import logging
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "difftop_ros"
SOURCE = Path(__file__).resolve().parent.parent
KINDS = ("msg", "srv", "action")
DEPENDENCIES = ("builtin_interfaces", "service_msgs", "unique_identifier_msgs", "action_msgs", "std_msgs",
                "geometry_msgs", "sensor_msgs", "trajectory_msgs")  # fmt: skip
PREFIX = Path(sys.prefix)
SITE = Path(sysconfig.get_paths()["purelib"])
SHARE = PREFIX / "share" / PACKAGE
INDEX = PREFIX / "share" / "ament_index" / "resource_index"
STAMP = SHARE / "messages.sha256"
LINKED = ("launch", "config", "models")
# Our name of each generator -> the last part of its libraries' names; each may use those before it.
PARTS = {
    "c": "rosidl_generator_c",
    "fastrtps_c": "rosidl_typesupport_fastrtps_c",
    "introspection_c": "rosidl_typesupport_introspection_c",
    "typesupport_c": "rosidl_typesupport_c",
    "py": "rosidl_generator_py",
}
BUILT_HERE = "# Built by tools/build_messages.py of difftop_ros; a wheel of this package takes its place.\n"


class BuildError(Exception):
    """The messages cannot be built; the text says why and what to do."""


@dataclass(frozen=True)
class Package:
    """Definitions to build: those in `source`/{msg,srv,action}, whose modules go into `modules`."""

    name: str
    source: Path
    modules: Path

    @property
    def share(self) -> Path:
        """Where its definitions lie when installed."""
        return PREFIX / "share" / self.name

    @property
    def extension(self) -> str:
        """Name of its compiled Python module."""
        return f"{self.name}_s__rosidl_typesupport_c{sysconfig.get_config_var('EXT_SUFFIX')}"

    @property
    def files(self) -> list[Path]:
        """Its definitions, relative to `source`, in a fixed order."""
        return sorted(p.relative_to(self.source) for kind in KINDS for p in (self.source / kind).glob(f"*.{kind}"))

    @property
    def built(self) -> bool:
        """Whether something is there that was built here."""
        return (self.modules / self.extension).is_file() and (self.modules / self.files[0].parent.name).is_dir()


def packages() -> list[Package]:
    """Our own first, then those of others that nobody else has installed."""
    # Not `difftop_ros`: a folder of that name without __init__.py would hide a source package installed with pip -e.
    found = [Package(PACKAGE, SOURCE, SITE / f"{PACKAGE}_interfaces")]
    for source in sorted(path for path in (SOURCE / "tools/interfaces").glob("*") if path.is_dir()):
        spec = importlib.util.find_spec(source.name)
        if spec is None or spec.origin is None or Path(spec.origin).read_text().startswith(BUILT_HERE):
            found.append(Package(source.name, source, SITE / source.name))
    return found


def fingerprint() -> str:
    """Hash of all that decides the result: definitions, this script, Python, and the generators' versions."""
    digest = hashlib.sha256()
    inputs = [package.source / file for package in packages() for file in package.files]
    scripts = sorted((SOURCE / "scripts").glob("*"))
    for path in (*inputs, *scripts, SOURCE / "package.xml", Path(__file__).resolve()):
        digest.update(f"{path.parent.parent.name}/{path.name}".encode() + b"\0" + path.read_bytes() + b"\0")
    parts = ("rosidl_adapter-*", "rosidl_generator_*", "rosidl_typesupport_*", "*_msgs-*", "fast*")
    versions = sorted({p.name for part in parts for p in SITE.glob(f"ros_{part}.dist-info")})
    digest.update(repr((sys.version, str(PREFIX), versions)).encode())
    return digest.hexdigest()


def up_to_date() -> bool:
    """True when what is installed was built from exactly the present inputs."""
    return (
        STAMP.is_file()
        and STAMP.read_text().strip() == fingerprint()
        and all(package.built for package in packages())
        and all((SHARE / name).exists() and (SHARE / name).samefile(SOURCE / name) for name in LINKED)
    )


def generate(package: Package, work: Path) -> dict[str, Path]:
    """Runs the generators; returns the output folder of each (every one holds a folder named like the package)."""
    try:
        from rosidl_cli.command.generate.extensions import load_type_extensions, load_typesupport_extensions
        from rosidl_cli.command.hash.extensions import load_hash_extensions
        from rosidl_cli.command.translate.api import translate
        from rosidl_generator_py.cli import GeneratePython
        from rosidl_typesupport_c.cli import GenerateCTypesupport
    except ImportError as error:
        raise BuildError(
            f"{sys.executable} lacks the ROS 2 message generators ({error}); run 'make setup', "
            "or on a ROS 2 installation build the package with colcon instead"
        ) from error
    # Each wheel registers its entry points twice, which the loaders only warn about when not strict.
    logging.getLogger("rosidl_cli").setLevel(logging.ERROR)
    includes = [str(PREFIX / "share" / name) for name in DEPENDENCIES]
    sources = [f"{package.source}:{path.as_posix()}" for path in package.files]
    with contextlib.redirect_stdout(io.StringIO()):  # it prints two lines for each file
        idl = translate(
            package_name=package.name, interface_files=sources, include_paths=includes,
            output_format="idl", output_path=work / "idl" / package.name,
        )  # fmt: skip
    hashes = load_hash_extensions()[0].generate_type_hashes(
        package.name, idl, includes, output_path=work / "idl" / package.name
    )
    implementations = ["rosidl_typesupport_fastrtps_c", "rosidl_typesupport_introspection_c"]
    generators = {
        "c": load_type_extensions(specs=["c"], strict=False)[0],
        "fastrtps_c": load_typesupport_extensions(specs=["fastrtps_c"], strict=False)[0],
        "introspection_c": load_typesupport_extensions(specs=["introspection_c"], strict=False)[0],
        "typesupport_c": GenerateCTypesupport("c", typesupport_implementations=implementations),
        "py": GeneratePython("py", typesupport_implementations=["rosidl_typesupport_c"]),
    }
    folders = {"idl": work / "idl"}
    for name, generator in generators.items():
        folders[name] = work / name
        if name != "c":
            generator.generate(package.name, idl, includes, output_path=work / name / package.name)
            continue
        for kind in KINDS:  # apart: it takes a file's hash by name alone, and a message may be called as an action is
            files, described = (
                [f for f in found if Path(str(f).rpartition(":")[2]).parent.name == kind] for found in (idl, hashes)
            )
            if files:
                generator.generate(
                    package.name, files, includes, output_path=work / name / package.name,
                    type_description_files=described,
                )  # fmt: skip
    return folders


def compile_all(package: Package, folders: dict[str, Path], target: Path) -> None:
    """Compiles what was generated into `target`: four shared libraries and the Python extension that uses them.

    The libraries carry the names that ROS 2 looks up at run time (`lib<package>__rosidl_typesupport_<kind>.so`).
    """
    import numpy

    includes = [*folders.values(), PREFIX / "include", *sorted(p for p in (PREFIX / "include").iterdir() if p.is_dir())]
    includes += [Path(sysconfig.get_paths()["include"]), Path(numpy.get_include())]
    flags = ["-O1", "-fPIC", "-w", f'-DROS_PACKAGE_NAME="{package.name}"', *(f"-I{path}" for path in includes)]

    def compile_one(source: Path) -> str:
        compiler = ["gcc", "-std=gnu11"] if source.suffix == ".c" else ["g++", "-std=c++17"]
        output = source.with_name(source.name + ".o")
        run([*compiler, *flags, "-c", str(source), "-o", str(output)])
        return str(output)

    sources = {name: [s for s in sorted(folders[name].rglob("*.c*")) if s.suffix in (".c", ".cpp")] for name in PARTS}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = {name: list(pool.map(compile_one, files)) for name, files in sources.items()}
    lib = PREFIX / "lib"
    search = [f"-L{target}", f"-L{lib}", f"-Wl,-rpath,{lib}", f"-Wl,-rpath-link,{target}"]
    search += [f"-Wl,-rpath-link,{path}" for path in [lib, *sorted(SITE.glob("ros_*.libs"))]]
    runtime = ["rosidl_runtime_c", "rosidl_typesupport_c", "rosidl_typesupport_fastrtps_c",
               "rosidl_typesupport_fastrtps_cpp", "rosidl_typesupport_introspection_c", "rmw", "rcutils",
               "fastcdr"]  # fmt: skip
    ours: list[str] = []
    for name, part in PARTS.items():
        final = part == "rosidl_generator_py"
        output = target / (package.extension if final else f"lib{package.name}__{part}.so")
        foreign = [f"{other}__{dependency}" for other in DEPENDENCIES for dependency in PARTS.values()]
        run(["g++", "-shared", "-o", str(output), f"-Wl,-soname,{output.name}", *objects[name], *search,
             "-Wl,--as-needed", *(f"-l{library}" for library in (*ours, *runtime, *foreign))])  # fmt: skip
        ours.append(f"{package.name}__{part}")


def run(command: list[str]) -> None:
    """Runs a compiler command; raises BuildError with its last lines when it fails."""
    if shutil.which(command[0]) is None:
        raise BuildError(f"the compiler {command[0]!r} was not found; install it (apt-get install gcc g++)")
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        tail = "\n".join(result.stderr.strip().splitlines()[-15:])
        hint = "; install the Python headers (apt-get install python3-dev)" if "Python.h" in tail else ""
        raise BuildError(f"{command[0]} failed on {command[-1]}{hint}:\n{tail}")


def install(package: Package, folders: dict[str, Path], compiled: Path) -> None:
    """Puts Python modules, compiled files, definitions and ament index entries into the environment."""
    modules, share = package.modules, package.share
    kinds = sorted({path.parent.name for path in package.files})
    for kind in kinds:
        for old in (modules / kind, share / kind):
            shutil.rmtree(old, ignore_errors=True)
        shutil.copytree(
            folders["py"] / package.name / kind, modules / kind, ignore=shutil.ignore_patterns("*.c", "*.o")
        )
        shutil.copytree(folders["idl"] / package.name / kind, share / kind)
        for path in (package.source / kind).glob(f"*.{kind}"):
            shutil.copy(path, share / kind)
    if package.name != PACKAGE:
        (modules / "__init__.py").write_text(BUILT_HERE)
    for path in compiled.iterdir():
        folder = modules if path.name == package.extension else PREFIX / "lib"
        # Moved over the old file, not written into it: a process that has the old one mapped goes on undisturbed.
        staging = folder / (path.name + ".new")
        shutil.copy(path, staging)
        os.replace(staging, folder / path.name)
    found = sorted(str(q.relative_to(share)) for kind in kinds for q in (share / kind).glob("*") if q.is_file())
    for index, content in (("packages", ""), ("rosidl_interfaces", "\n".join(found))):
        (INDEX / index).mkdir(parents=True, exist_ok=True)
        (INDEX / index / package.name).write_text(content)


def install_files() -> None:
    """Puts our executables, package.xml and links to what ships into the environment."""
    for path in (SOURCE / "scripts").iterdir():  # where ros2 run and launch files look for executables
        program = PREFIX / "lib" / PACKAGE / path.name
        program.parent.mkdir(exist_ok=True)
        program.write_text(path.read_text().replace("#!/usr/bin/env python3", f"#!{sys.executable}", 1))
        program.chmod(0o755)
    shutil.copy(SOURCE / "package.xml", SHARE)
    for name in LINKED:  # links, so that an edited parameter file is the one that is launched
        link = SHARE / name
        if link.is_symlink():
            link.unlink()
        elif link.exists():  # copies of an earlier `pip install .`
            shutil.rmtree(link)
        link.symlink_to(SOURCE / name, target_is_directory=True)


def build() -> None:
    """Generates, compiles and installs; leaves the stamp last, so that a broken build is never taken for a good one."""
    existing = os.environ.get("AMENT_PREFIX_PATH", "")
    os.environ["AMENT_PREFIX_PATH"] = os.pathsep.join(filter(None, [str(PREFIX), existing]))
    STAMP.unlink(missing_ok=True)
    for package in packages():
        with tempfile.TemporaryDirectory(prefix="difftop_messages_") as name:
            work = Path(name)
            folders = generate(package, work)
            compiled = work / "compiled"
            compiled.mkdir()
            compile_all(package, folders, compiled)
            install(package, folders, compiled)
    install_files()
    STAMP.write_text(fingerprint() + "\n")


def main() -> int:
    """Entry point; returns the process's exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--force", action="store_true", help="build even when nothing has changed")
    parser.add_argument("--check", action="store_true", help="only say whether a build is needed (exit code 1 if so)")
    arguments = parser.parse_args()
    if sys.prefix == sys.base_prefix:
        print("build_messages: run this with the virtual environment's Python, e.g. .venv/bin/python", file=sys.stderr)
        return 2
    current = up_to_date()
    if arguments.check:
        return 0 if current else 1
    if current and not arguments.force:
        return 0
    start = time.monotonic()
    SHARE.mkdir(parents=True, exist_ok=True)
    try:
        with (SHARE / "messages.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two set-ups at once: the second waits, then finds nothing to do
            if up_to_date() and not arguments.force:
                return 0
            build()
    except BuildError as error:
        print(f"build_messages: {error}", file=sys.stderr)
        return 2
    count = sum(len(package.files) for package in packages())
    print(f"messages: {count} definitions built into {PREFIX} in {time.monotonic() - start:.1f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
