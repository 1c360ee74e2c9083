"""The style sheet of the page: system fonts, one column, dark ink on white, nothing that needs colour to be read."""

from __future__ import annotations

_GAINS = ("#eef4fb", "#dce9f7", "#c3daf1", "#a5c8ea")
_LOSSES = ("#fbf1e8", "#f8e4d2", "#f4d3b5", "#eebf93")


def _tints() -> str:
    gains = [f".gain{step}{{background:{colour}}}" for step, colour in enumerate(_GAINS, 1)]
    # Hatching tells a loss where colours cannot be seen.
    hatch = "repeating-linear-gradient(135deg,transparent 0 5px,rgba(120,60,0,.17) 5px 6px)"
    losses = [f".loss{step}{{background:{hatch},{colour}}}" for step, colour in enumerate(_LOSSES, 1)]
    return "".join([*gains, *losses])


STYLE = (
    """
*{box-sizing:border-box}
body{margin:0 auto;max-width:70rem;padding:1rem;font:1rem/1.5 system-ui,sans-serif;color:#1a1a1a;background:#fff;
overflow-wrap:anywhere}
h1{font-size:1.6rem;line-height:1.2;margin:.5rem 0}
h2{font-size:1.25rem;margin:2rem 0 .5rem;border-bottom:1px solid #c4c4c4}
p,li{max-width:48rem}
ul{padding-left:1.2rem}
.question{font-size:1.1rem;margin:.2rem 0}
.progress,.note{color:#4a4a4a;font-size:.9rem}
progress{width:100%;max-width:20rem}
.answer{font-size:1.15rem;border-left:4px solid #1f5fa8;padding:.2rem 0 .2rem .8rem}
.wide{overflow-x:auto;max-width:100%;margin:.5rem 0}
.wide:focus-visible,summary:focus-visible,a:focus-visible{outline:3px solid #1f5fa8}
table{border-collapse:collapse;font-size:.85rem;font-variant-numeric:tabular-nums;overflow-wrap:normal}
caption{text-align:left;font-weight:600;padding:.3rem 0}
th,td{padding:.2rem .5rem;border-bottom:1px solid #dcdcdc;text-align:left;vertical-align:top}
thead th{vertical-align:bottom;border-bottom:2px solid #8a8a8a}
tbody th{font-weight:400}
td{white-space:nowrap}
.number{text-align:right}
.heat td{text-align:center;min-width:3.6rem;border:1px solid #fff;vertical-align:middle}
.heat th small{display:block;color:#4a4a4a}
.heat thead th{text-align:center;border-left:1px solid #fff}
.heat thead th:first-child{text-align:left}
.heat .none{color:#5a5a5a;font-size:.75rem}
.key{display:flex;flex-wrap:wrap;gap:.3rem .9rem;font-size:.85rem}
.key span{padding:0 .3rem}
.key svg{vertical-align:-3px}
.panels{display:flex;flex-wrap:wrap;gap:1rem 1.5rem;align-items:flex-start}
figure{margin:0;max-width:100%}
figure svg{display:block;max-width:100%;height:auto}
figcaption{font-weight:600;font-size:.95rem;margin:.2rem 0;max-width:328px}
summary{cursor:pointer;padding:.3rem 0;font-weight:600}
.files{columns:16rem}
@media print{.wide{overflow:visible}}
"""
    + _tints()
).replace("\n", "")
