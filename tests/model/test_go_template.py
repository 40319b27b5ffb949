"""Go's text/template: the language, action by action, and the bounds on a stranger's template."""

import time
from datetime import date
from types import MappingProxyType

import pytest

from modelpm.errors import ModelError
from modelpm.model.go_template import MAX_STEPS, Bounds, Template

TOOL = {"type": "function", "function": {"name": "weather"}}
DATA = {
    "Name": "Ada",
    "Empty": "",
    "Zero": 0,
    "Half": 0.5,
    "Whole": 3.0,
    "Yes": True,
    "Nothing": None,
    "Text": "héllo",
    "List": ["a", "b", "c"],
    "None": [],
    "Map": {"b": 2, "a": 1},
    "Deep": {"Er": {"Est": "x"}},
    "Tools": [TOOL],
    "Types": [{"type": ["integer", "null"]}, {"type": "string"}, {"type": []}],
    "tool_calls": [1],
    "Html": "<a & b>",
    "Fixed": MappingProxyType({"k": ("v",)}),
}


def run(template: str) -> str:
    return Template.parse(template).execute(DATA, today=date(2026, 3, 1))


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("", ""),
        ("plain { } text", "plain { } text"),
        ("{{ .Name }}", "Ada"),
        ("{{.Name}}!", "Ada!"),
        ("{{ $.Name }}", "Ada"),
        ("{{ .Deep.Er.Est }}", "x"),
        ("{{ .Missing }}|{{ .Missing.Too }}|{{ .Nothing }}", "||"),
        ("{{ .ToolCalls }}", "[1]"),
        ('{{ "a\\tb\\n\\"\\u00e9\\x41\\101" }}', 'a\tb\n"éAA'),
        ("{{ `raw \\n` }}", "raw \\n"),
        ("{{ 'a' }} {{ 12 }} {{ -3 }} {{ 0x10 }} {{ 1.5 }} {{ 1e3 }}", "97 12 -3 16 1.5 1000"),
        ("{{ true }} {{ false }} {{ nil }}", "true false "),
        ("{{ .Half }} {{ .Whole }} {{ .Zero }} {{ .Yes }}", "0.5 3 0 true"),
        ("{{ .Map }} {{ .List }}", '{"b":2,"a":1} ["a","b","c"]'),
        ("{{ .Fixed }}", '{"k":["v"]}'),
        # spaces and comments
        ("a \n {{- .Name -}} \n b", "aAdab"),
        ("a {{/* not seen */}} b", "a  b"),
        ("a {{- /* not\n seen */ -}} b", "ab"),
        ("{{- .Name }} ", "Ada "),
        ('{{ "}}" }}', "}}"),
        ("{{-3}}", "-3"),
        ("{{ .Name\n}}", "Ada"),
        # if, else, with
        ("{{ if .Name }}y{{ else }}n{{ end }}", "y"),
        ("{{ if .Empty }}y{{ else }}n{{ end }}", "n"),
        ("{{ if .Zero }}y{{ end }}", ""),
        ("{{ if .Empty }}1{{ else if .None }}2{{ else if .Yes }}3{{ else }}4{{ end }}", "3"),
        ("{{ if .Empty }}1{{ else if .None }}2{{ else }}4{{ end }}", "4"),
        ("{{ with .Deep }}{{ .Er.Est }}{{ $.Name }}{{ end }}", "xAda"),
        ("{{ with .Empty }}y{{ else }}{{ .Name }}{{ end }}", "Ada"),
        ("{{ with .Empty }}y{{ else with .Map }}{{ .a }}{{ end }}", "1"),
        ("{{ with $x := .Name }}{{ $x }}{{ . }}{{ end }}", "AdaAda"),
        # range
        ("{{ range .List }}{{ . }},{{ end }}", "a,b,c,"),
        ("{{ range $x := .List }}{{ $x }}{{ end }}", "abc"),
        ("{{ range $i, $x := .List }}{{ $i }}{{ $x }}{{ end }}", "0a1b2c"),
        ("{{ range $k, $v := .Map }}{{ $k }}{{ $v }}{{ end }}", "a1b2"),
        ("{{ range 3 }}{{ . }}{{ end }}", "012"),
        ("{{ range .None }}y{{ else }}n{{ end }}", "n"),
        ("{{ range .Missing }}y{{ else }}n{{ end }}", "n"),
        ('{{ range .List }}{{ if eq . "b" }}{{ continue }}{{ end }}{{ . }}{{ end }}', "ac"),
        ('{{ range .List }}{{ if eq . "b" }}{{ break }}{{ end }}{{ . }}{{ end }}', "a"),
        ("{{ range .List }}{{ range $.Map }}{{ . }}{{ break }}{{ end }}{{ end }}", "111"),
        # variables
        ("{{ $x := 1 }}{{ $x }}", "1"),
        ("{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ end }}{{ $x }}", "2"),
        ("{{ $x := 1 }}{{ if true }}{{ $x := 2 }}{{ end }}{{ $x }}", "1"),
        ("{{ $last := 0 }}{{ range $i, $_ := .List }}{{ $last = $i }}{{ end }}{{ $last }}", "2"),
        ("{{ $d := .Deep }}{{ $d.Er.Est }}", "x"),
        # functions
        ('{{ eq .Name "Ada" }}{{ eq .Name "x" "Ada" }}{{ eq 1 1.0 }}', "truetruetrue"),
        ('{{ eq .Yes 1 }}{{ ne .Name "x" }}{{ eq .Nothing nil }}', "falsetruetrue"),
        ("{{ lt 1 2 }}{{ le 2 2 }}{{ gt 1 2 }}{{ ge 2 2 }}", "truetruefalsetrue"),
        ("{{ lt `a` `b` }}", "true"),
        ("{{ and 1 0 2 }}|{{ and 1 2 }}|{{ or 0 .Name }}|{{ or 0 .Empty }}", "0|2|Ada|"),
        ("{{ and .Nothing (index .List 9) }}", ""),
        ("{{ 1 | and }}", "1"),
        ("{{ not .Name }}{{ not .Empty }}", "falsetrue"),
        ("{{ len .Text }} {{ len .List }} {{ len .Map }} {{ len .Nothing }}", "6 3 2 0"),
        ('{{ index .List 1 }}{{ index .Map "b" }}{{ index .Tools 0 "type" }}', "b2function"),
        ('{{ index .Map "none" }}', ""),
        ("{{ slice .Text 0 1 }}|{{ slice `abc` }}", "h|abc"),
        ("{{ slice .List 1 }}|{{ slice .List 1 2 }}", '["b","c"]|["b"]'),
        ("{{ len (slice .List 1) }}", "2"),
        ("{{ (index .Tools 0).Function.Name }}", "weather"),
        ("{{ json .Html }}", '"\\u003ca \\u0026 b\\u003e"'),
        ("{{ json .Deep }}{{ json .List }}", '{"Er":{"Est":"x"}}["a","b","c"]'),
        ('{{ printf "%s-%d-%v-%q-%t-%%" .Name 3 .Half .Name true }}', 'Ada-3-0.5-"Ada"-true-%'),
        ('{{ printf "%5s|%-5s|%05d" .Name .Name 42 }}', "  Ada|Ada  |00042"),
        ('{{ printf "%+d|%x|%.2f|%.2s" 7 255 .Half .Name }}', "+7|ff|0.50|Ad"),
        ('{{ printf "%d %s" "x" }}', "%!d(x) %!s(MISSING)"),
        ('{{ .Name | printf "%s%s" "x" }}', "xAda"),
        ("{{ .List | len | printf `%d` }}", "3"),
        ("{{ currentDate }} {{ yesterdayDate }}", "2026-03-01 2026-02-28"),
        ('{{ printf "%s" currentDate }}', "2026-03-01"),
        ("{{ range .Types }}{{ toTypeScriptType . }};{{ end }}", "number | null;string;any;"),
        ("{{ toTypeScriptType 1 }} {{ toTypeScriptType .Map }}", "any any"),
    ],
)  # fmt: skip
def test_the_language(template: str, text: str) -> None:
    assert run(template) == text


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        ("a\n{{ .Name", "line 2: an action has no }} at its end"),
        ("{{ ~ }}", "line 1: not understood: '~ }}'"),
        ("{{ }}", "does not make sense at its end"),
        ("{{ .A .B }}", "does not make sense at its end"),
        ("{{ . | }}", "does not make sense at its end"),
        ("{{ (.A }}", "does not make sense at its end"),
        ("{{ .A) }}", "does not make sense at ')'"),
        ("{{ $x := }}", "does not make sense"),
        ("{{ $x, $y .A }}", "does not make sense"),
        ("\n\n{{ shout .Name }}", "line 3: the function 'shout' is not known"),
        ("{{ len shout }}", "the function 'shout' is not known"),
        ("{{ if .A }}", "line 1: {{ if }} has no {{ end }}"),
        ("{{ range .A }}{{ else }}", "{{ range }} has no {{ end }}"),
        ("{{ if .A }}{{ end .B }}", "has no {{ end }}"),
        ("\n{{ end }}", "line 2: an unexpected {{ end }}"),
        ("{{ else }}", "an unexpected {{ else }}"),
        ("{{ if .A }}{{ else .B }}{{ end }}", "something stands behind an else"),
        ("{{ if .A }}{{ else }}{{ else }}{{ end }}", "has no {{ end }}"),
        ("{{ break }}", "{{ break }} outside of a range"),
        ("{{ define `x` }}{{ end }}", "does not know {{ define }}"),
        ("{{ template `x` }}", "does not know {{ template }}"),
        ('{{ "\\q" }}', "an unknown escape"),
        ("{{ 123456789012345678901 }}", "is too long"),
        ("{{ if true }}" * 65 + "{{ end }}" * 65, "nested more than 64 deep"),
        ("{{ " + "(" * 65 + "1" + ")" * 65 + " }}", "nested more than 64 deep"),
        ("{{ if 0 }}" + "{{ else if 0 }}" * 65 + "{{ end }}", "nested more than 64 deep"),
        ("x" * (2**20 + 1), "more than 1048576 characters"),
        # found when it is carried out
        ("\n{{ $x }}", "line 2: the variable $x is not known"),
        ("{{ $x = 1 }}", "the variable $x is not known"),
        ("{{ if true }}{{ $x := 1 }}{{ end }}{{ $x }}", "the variable $x is not known"),
        ("{{ .Name.First }}", ".First of something that has no fields"),
        ("{{ index .List 3 }}", "there is no item '3'"),
        ("{{ index .List `x` }}", "there is no item 'x'"),
        ("{{ index .Nothing 0 }}", "there is no item '0'"),
        ("{{ slice .List 2 1 }}", "the ends are outside"),
        ("{{ slice .List 0 4 }}", "the ends are outside"),
        ("{{ slice .Zero }}", "has no items"),
        ("{{ range .Name }}{{ end }}", "range over something that has no items"),
        ("{{ len 3 }}", "has no length"),
        ("{{ lt 1 `a` }}", "compare two numbers or two strings"),
        ("{{ lt true false }}", "compare two numbers or two strings"),
        ("{{ eq 1 }}", "eq does not take 1 operands"),
        ("{{ and }}", "and does not take 0 operands"),
        ("{{ index `abc` 1 }}", "there is no item '1'"),
        ("{{ not }}", "not does not take 0 operands"),
        ("{{ 1 | .Name }}", "passed on to something that takes none"),
        ("{{ printf 1 }}", "the format is not a string"),
        ('{{ printf "%101s" 1 }}', "a width of more than 100"),
        ('{{ printf "%.999f" 1.5 }}', "a precision of more than 100"),
    ],
)
def test_a_flaw_is_told_with_its_line(template: str, sentence: str) -> None:
    with pytest.raises(ModelError) as caught:
        run(template)
    assert sentence in str(caught.value)
    assert "the template" in str(caught.value)


DOUBLING = '{{ $x := "aaaaaaaaaaaaaaaa" }}' + '{{ $x = printf "%s%s" $x $x }}' * 40


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        ("{{ range 2000000 }}{{ end }}", f"more than {MAX_STEPS} steps"),
        ("{{ range 9999 }}{{ range 9999 }}{{ end }}{{ end }}", f"more than {MAX_STEPS} steps"),
        ("{{ range 1000 }}{{ $.Long }}{{ end }}", "more than 1048576 characters"),
        (DOUBLING, "more than 1048576 characters"),
        ("{{ $x := .Long }}{{ range 999999 }}{{ $y := slice $x 1 }}{{ end }}", "steps"),
        ("{{ range 999999 }}{{ $y := eq $.Long $.Long2 }}{{ end }}", "steps"),
        ("{{ range 99 }}{{ $y := json $.Wide }}{{ end }}", "json gives more than 1048576"),
        ("{{ printf `%s%s%s%s` .Wide .Wide .Wide .Wide }}", "printf: more than 1048576"),
        ('{{ printf "%s%s" .Half1 .Half1 }}{{ printf "%s" .Half1 .Half1 }}', "more than 1048576"),
        ("{{ range 999 }}{{ range $.Map }}{{ end }}{{ end }}", "steps"),
    ],
)
def test_no_template_outgrows_its_bounds(template: str, sentence: str) -> None:
    data = {
        "Long": "y" * 100_000,
        "Long2": "y" * 100_000,
        "Half1": "z" * 600_000,
        "Wide": ["word"] * 200_000,
        "Map": {f"k{i}": i for i in range(2_000)},
    }
    start = time.perf_counter()
    with pytest.raises(ModelError) as caught:
        Template.parse(template).execute(data)
    assert sentence in str(caught.value)
    assert time.perf_counter() - start < 20


def test_executions_can_share_their_bounds() -> None:
    template = Template.parse("{{ range 300000 }}{{ end }}")
    bounds = Bounds()
    for _ in range(3):
        template.execute({}, bounds=bounds)
    with pytest.raises(ModelError, match="steps"):
        template.execute({}, bounds=bounds)


def test_json_of_what_is_none_is_an_error() -> None:
    endless: list[object] = []
    endless.append(endless)
    for value in (b"x", endless, object()):
        with pytest.raises(ModelError, match="json: "):
            Template.parse("{{ json .X }}").execute({"X": value})


def test_today_is_a_day() -> None:
    assert len(Template.parse("{{ currentDate }}").execute({})) == len("2026-03-01")


@pytest.mark.parametrize(
    ("template", "kept"),
    [
        ("a{{ .Response }}b", "a-"),
        ("a{{ if .Response }}{{ .Response }}b{{ else }}c{{ end }}d", "a-"),
        ("{{ if .No }}{{ .Response }}b{{ end }}d", ""),
        ("{{ if .No }}a{{ else }}{{ .Response }}b{{ end }}d", "-"),
        ("{{ range .No }}{{ end }}a{{ (.Response) }}d", "a-"),
        ("{{ $x := .Response }}b", ""),
        ("no answer", "no answer"),
    ],
)
def test_a_template_is_cut_where_the_answer_begins(template: str, kept: str) -> None:
    assert Template.parse(template).cut_after("Response").execute({"Response": "-"}) == kept


@pytest.mark.parametrize(
    ("template", "found"),
    [
        ("{{ .Messages }}", True),
        ("{{ range $.messages }}{{ end }}", True),
        ("{{ if and .A (len .B.Messages) }}{{ end }}", True),
        ("{{ if .A }}{{ else }}{{ $x := .Messages }}{{ end }}", True),
        ("Messages {{ .Prompt }}", False),
        ('{{ "Messages" }}', False),
    ],
)
def test_a_template_tells_what_it_mentions(template: str, found: bool) -> None:
    assert Template.parse(template).mentions("Messages") is found
