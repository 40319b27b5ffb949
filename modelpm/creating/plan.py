"""What a Modelfile asks for: which files, which of the inherited parts, which texts.

All that can be refused is refused here, before a file is hashed.
"""

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from modelpm.creating.inherited import WORDS, Inherited
from modelpm.errors import InvalidReferenceError, ModelError, NotFoundError
from modelpm.intake import OCTETS, standin
from modelpm.model import about, parameters, template
from modelpm.model.about import MAX_CONFIG, About
from modelpm.model.blueprint import Blueprint
from modelpm.model.folder import Found, collect, found_file, indexes, small
from modelpm.model.gguf import Header
from modelpm.model.go_json import encode
from modelpm.model.modelfile import Command, Modelfile, located
from modelpm.model.names import unique_names
from modelpm.model.parts import Part
from modelpm.model.roles import Role
from modelpm.model.shards import listed, weight_sets
from modelpm.oci.descriptor import Descriptor, Digest

_ONE_MODEL = "a model can be made from one model only; the rest must be files"
_KINDS = {
    Role.WEIGHTS: "a whole model ({}): FROM takes it",
    Role.PROJECTOR: "a projector: FROM takes it",
    Role.ADAPTER: "an adapter ({}): ADAPTER takes it",
}
_VERSION = re.compile(r"v?\d+(\.\d+){0,2}([-+][0-9A-Za-z.+-]+)?")


class Plan:
    """What a Modelfile asks for: files that are not hashed yet, and what is inherited."""

    def __init__(
        self,
        modelfile: Modelfile,
        folder: Path,
        inherit: Callable[[str], Inherited],
    ) -> None:
        self._modelfile = modelfile
        self._folder = folder
        self._inherit = inherit
        self.base: Inherited | None = None
        self._headers: dict[Path, Header] = {}
        self.files: list[Found] = []
        """In the order of the Modelfile; each once."""
        for command in modelfile.commands:
            with located(command):
                if command.instruction == "FROM":
                    self._take(command)
                elif command.instruction in ("ADAPTER", "DRAFT"):
                    self._take_companion(command)
        self.about = self._judge()

    def _take(self, command: Command) -> None:
        path = path_of(self._folder, command.value)
        if is_there(path):
            self._add(collect(path))
        else:
            if self.base is not None:
                raise ModelError(_ONE_MODEL)
            try:
                self.base = self._inherit(command.value)
            except (NotFoundError, InvalidReferenceError) as error:
                raise NotFoundError(self._neither(command.value, error)) from error

    def _neither(self, value: str, error: Exception) -> str:
        """What is said of a FROM that is neither a path nor the name of a model."""
        if Path(value).is_absolute():
            return f"{value} is no file and no folder"
        told = f"{value} is no file in {self._folder.resolve()}, and no model that is here"
        can_be_pulled = isinstance(error, NotFoundError) and not _is_called_as_file(value)
        return f"{told} (try: modelpm pull {value})" if can_be_pulled else told

    def _take_companion(self, command: Command) -> None:
        role = Role(command.instruction.lower())
        path = path_of(self._folder, command.value)
        self.files = [found for found in self.files if found.role is not role]
        found = replace(found_file(path)[0], role=role)
        header = self._headers[found.path] = Header.read(found.path)
        really = _role(Role.WEIGHTS, header)
        if really is not (Role.ADAPTER if role is Role.ADAPTER else Role.WEIGHTS):
            needed = "an adapter" if role is Role.ADAPTER else "a whole model"
            is_told = _KINDS[really].format(header.architecture or "unknown")
            raise ModelError(f"{command.instruction} takes {needed}, and {path} is {is_told}")
        self._add([found])

    def _add(self, files: Iterable[Found]) -> None:
        there = {found.path for found in self.files}
        self.files += [found for found in files if found.path not in there]

    def _judge(self) -> About:
        """Let every file through its gate, and the weights be one whole model."""
        headers = self._headers
        for found in self.files:
            if found.name.lower().endswith(".gguf") and found.path not in headers:
                headers[found.path] = Header.read(found.path)
        self.files = [
            replace(found, role=_role(found.role, headers.get(found.path))) for found in self.files
        ]
        weights = [found for found in self.files if found.role is Role.WEIGHTS]
        if not weights:
            if self.base is None:
                raise ModelError("there are no weights: FROM names none")
            return self.base.about
        if self.base is not None:
            raise ModelError("FROM names weights twice: a model's and a file's")
        sets = weight_sets(_parts(weights), indexes(self.files))
        if len(sets) > 1:
            raise ModelError(f"two models or more: {listed(sets)} (name one with FROM)")
        sets[0].check()
        found_at = {marked(found).digest: found.path for found in weights}
        paths = [found_at[part.descriptor.digest] for part in sets[0].parts]
        if all(path in headers for path in paths):
            return about.of_ggufs([headers[path] for path in paths])
        configs = [found.path for found in self.files if found.name == "config.json"]
        config = small(configs[0], MAX_CONFIG) if configs else None
        return about.of_safetensors(paths, config)

    def blueprint(self, texts: Mapping[Part, bytes]) -> Blueprint:
        """Everything, with stand-ins for the descriptors of the files."""
        replaced = {found.role for found in self.files} & {Role.ADAPTER, Role.DRAFT}
        base = self.base.parts if self.base is not None else ()
        gone = self._overridden(texts)
        parts = [part for part in base if part.role not in replaced and part not in gone]
        parts += [*_parts(self.files), *texts]
        names = unique_names(part.name for part in parts)
        words = dict(self.base.words) if self.base is not None else {}
        words |= {word: text for word in WORDS if (text := self._word(word)) is not None}
        return Blueprint(
            tuple(replace(part, name=name) for part, name in zip(parts, names, strict=True)),
            self.about,
            {word: text for word, text in words.items() if text},
        )

    def _word(self, word: str) -> str | None:
        """What RENDERER, PARSER or REQUIRES says last."""
        commands = [c for c in self._modelfile.commands if c.instruction == word.upper()]
        for command in commands:
            if word == "requires" and not _VERSION.fullmatch(command.value):
                with located(command):
                    raise ModelError(f"REQUIRES {command.value[:50]!r} is no version, as in 0.14.1")
        return commands[-1].value if commands else None

    def texts(self) -> dict[Part, bytes]:
        """The texts that the Modelfile adds or changes, as parts with their bytes."""
        found: dict[Part, bytes] = {}
        for role, name, content in self._contents():
            there = {part.descriptor.digest for part in self._inherited(role)}
            if content and Digest.of(content) not in there:
                found[Part(role, Descriptor.of(content, OCTETS), name)] = content
        return found

    def _contents(self) -> Iterator[tuple[Role, str, bytes]]:
        """Each text that the Modelfile wants, with its role and name."""
        for command in self._last("TEMPLATE"):
            content = command.value.encode()
            there = (part.descriptor.digest for part in self._inherited(Role.TEMPLATE))
            if content and Digest.of(content) not in there:  # what is inherited is as it is
                with located(command):
                    _check_template(command.value)
            yield Role.TEMPLATE, "template", content
        for command in self._last("SYSTEM"):
            yield Role.SYSTEM, "system", command.value.encode()
        for text in self._modelfile.values("LICENSE"):
            yield Role.LICENSE, "LICENSE", text.encode()
        if changed := self._changed_parameters():
            yield Role.PARAMETERS, "params.json", encode(changed)
        turns = self._modelfile.messages
        if turns and not (self.base is not None and self.base.model.messages == turns):
            told = [{"role": turn.role, "content": turn.content} for turn in turns]
            yield Role.MESSAGES, "messages.json", encode(told, sort_keys=False)

    def _changed_parameters(self) -> dict[str, object]:
        """All parameters, where any is not as it is inherited; else none."""
        wanted = self._modelfile.parameters
        if self.base is None:
            return wanted
        there = self.base.model.parameters
        same = all(name in there and _is_same(there[name], wanted[name]) for name in wanted)
        return {} if same else {**self.base.model.parameters_as_told, **wanted}

    def _last(self, instruction: str) -> list[Command]:
        commands = [c for c in self._modelfile.commands if c.instruction == instruction]
        return commands[-1:]

    def _inherited(self, role: Role) -> list[Part]:
        """The parts of a role that a text of the Modelfile stands in for."""
        parts = self.base.parts if self.base is not None else ()
        return [part for part in parts if part.role is role and not _is_for_others(part)]

    def _overridden(self, texts: Iterable[Part]) -> set[Part]:
        """What of the inherited parts the Modelfile's texts replace, or with "" take away."""
        roles = {part.role for part in texts} - {Role.LICENSE}
        for instruction, role in (("TEMPLATE", Role.TEMPLATE), ("SYSTEM", Role.SYSTEM)):
            if any(not command.value for command in self._last(instruction)):
                roles.add(role)
        return {part for role in roles for part in self._inherited(role)}


def base(modelfile: Modelfile, folder: Path) -> str | None:
    """What FROM names as a model: a path that exists is a path, and so is what ends as weights do.

    Raises ModelError where there are two, or nobody may look at a path.
    """
    found = None
    for command in modelfile.commands:
        if command.instruction == "FROM" and not _is_called_as_file(command.value):
            with located(command):
                if not is_there(path_of(folder, command.value)):
                    if found is not None:
                        raise ModelError(_ONE_MODEL)
                    found = command.value
    return found


def path_of(folder: Path, value: str) -> Path:
    """Where a path of the Modelfile leads; `~` is the user's folder, where there is one."""
    with contextlib.suppress(RuntimeError):
        return folder / Path(value).expanduser()
    return folder / value


def _is_called_as_file(value: str) -> bool:
    return value.lower().endswith((".gguf", ".safetensors"))


def is_there(path: Path) -> bool:
    """Whether the path leads to anything. Raises ModelError where nobody may look."""
    try:
        path.lstat()
    except PermissionError as error:
        raise ModelError(f"reading {path}: {error.strerror}") from error
    except (OSError, ValueError):
        return False
    return True


def _parts(files: Iterable[Found]) -> list[Part]:
    """Parts for files that are not hashed yet."""
    return [Part(found.role, marked(found), found.name) for found in files]


def marked(found: Found) -> Descriptor:
    """What stands for a file that is not hashed yet."""
    return standin(found.path, found.size)


def _role(role: Role, header: Header | None) -> Role:
    """What a file is for: what its header says is nearer than its name."""
    if header is None or role in (Role.ADAPTER, Role.DRAFT):
        return role
    if header.kind == "adapter" or any(key.startswith("adapter.") for key in header.metadata):
        return Role.ADAPTER
    is_projector = header.kind in ("mmproj", "projector") or header.architecture == "clip"
    return Role.PROJECTOR if is_projector else role


def _check_template(text: str) -> None:
    try:
        template.check(text)
    except ModelError as error:
        if "{%" not in text:
            raise
        raise ModelError(
            f"TEMPLATE takes Go's template language, and this looks like Jinja ({error});"
            " put it beside the weights as chat_template.jinja"
        ) from error


def _is_for_others(part: Part) -> bool:
    """Whether this is a template that Ollama's language cannot stand in for."""
    return part.role is Role.TEMPLATE and part.name.endswith((".jinja", ".json"))


def _is_same(there: object, wanted: object) -> bool:
    """Whether a parameter's value is the inherited one, as exactly as Modelfiles tell."""
    return wanted == (parameters.single(there) if isinstance(there, float) else there)
