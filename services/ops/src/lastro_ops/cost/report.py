"""The cost of a plan, as text for a terminal and as Markdown for a pull request."""

from __future__ import annotations

import datetime
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal

from lastro_ops.cost.bill import HOURS, PRICE_FILE, ZERO, Price, Prices, total
from lastro_ops.cost.plans import Resources, read_plan
from lastro_ops.cost.pricing import managed, price_all
from lastro_ops.project import Environment
from lastro_ops.terraform.plan import Plan


def number(value: Decimal) -> str:
    """A quantity with two digits at most, and thousands apart."""
    return f"{value:,.2f}".rstrip("0").rstrip(".")


def mark(*prices: Price) -> str:
    """Whether one of the prices has fewer than two sources."""
    return "*" if any(price.sources < 2 for price in prices) else " "


def unit_price(price: Price) -> str:
    """A price as it is published, cents at least."""
    digits = max(2, -int(price.usd.as_tuple().exponent))
    return f"{price.usd:.{digits}f}"


def age_warning(price: Prices, today: datetime.date) -> list[str]:
    """One line when the prices are older than a year."""
    date = price.data["date"]
    if today - date <= datetime.timedelta(days=365):
        return []
    return [f"WARNING: the prices are of {date}, more than a year ago; update {PRICE_FILE}"]


def assumptions(price: Prices) -> list[tuple[str, ...]]:
    """The assumptions: name and value, unit, reason."""
    return [
        (f"{name}={price.assumed[name]}", of["unit"], of["why"])
        for name, of in price.data["assumptions"].items()
    ]


def columns(rows: Sequence[tuple[str, ...]], right: Iterable[int] = ()) -> Iterator[str]:
    """Rows in aligned columns, those of ``right`` to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            cell.rjust(width) if at in right else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()


def as_text(environment: str, plan: Resources, price: Prices, today: datetime.date) -> str:
    """Everything, for a terminal."""
    lines = price_all(plan.after, price)
    services = managed(plan.after, lines, price)
    ours, theirs = total(lines), sum((service.usd for service in services), ZERO)
    rows = [
        ("resource", "what", "quantity", "unit", "unit price ", "USD a month"),
        *(
            (
                line.name,
                line.what,
                number(line.quantity),
                line.price.unit,
                unit_price(line.price) + mark(line.price),
                f"{line.usd:,.2f}",
            )
            for line in lines
        ),
        ("total", "", "", "", "", f"{ours:,.2f}"),
    ]
    compared = [
        *(
            (service.name, f"{service.usd:,.2f}" + mark(*(line.price for line in service.lines)))
            for service in services
        ),
        ("total", f"{theirs:,.2f} "),
        ("total with the serverless MLflow", f"{theirs - services[1].usd:,.2f} "),
        (f"{environment}, from above", f"{ours:,.2f} "),
    ]
    text = [
        f"Monthly cost of {environment} in {price.region}: {HOURS} hours, on demand, no tax.",
        f"Prices of {price.data['date']}; their sources are in {PRICE_FILE}, * = fewer than two.",
        *age_warning(price, today),
        "",
        *columns(rows, right={2, 4, 5}),
        "",
        "The same work on Amazon's managed services:",
        *columns(compared, right={1}),
        "",
        *(
            textwrap.fill(note, 100, initial_indent="- ", subsequent_indent="  ")
            for note in price.data["comparison"]["notes"]
        ),
        "",
        *textwrap.wrap(f"Not counted: {price.data['not_counted']}.", 100),
        "",
        "Assumed, since a plan does not know it (--assume NAME=VALUE):",
        *columns(assumptions(price)),
    ]
    return "\n".join(text)


def as_markdown(environment: str, plan: Resources, price: Prices, today: datetime.date) -> str:
    """The cost for the reviewer of a plan: the total, and the lines that change it."""
    after = price_all(plan.after, price)
    before = after if plan.before is None else price_all(plan.before, price)
    had, has = total(before), total(after)
    if plan.before is None:
        headline = f"{has:,.2f} USD"
    elif had == has:
        headline = f"{has:,.2f} USD, unchanged"
    else:
        headline = f"{had:,.2f} -> {has:,.2f} USD ({has - had:+,.2f})"
    old, new = ({(line.resource, line.what): line.usd for line in side} for side in (before, after))
    changed = [
        f"| `{of}` | {what} | {old.get((of, what), ZERO):,.2f} | {new.get((of, what), ZERO):,.2f} |"
        for of, what in dict.fromkeys([*old, *new])
        if old.get((of, what)) != new.get((of, what))
    ]
    head = ["| resource | what | before | after |", "|---|---|--:|--:|"]
    theirs = sum((service.usd for service in managed(plan.after, after, price)), ZERO)
    assumed = ", ".join(f"`{value}`" for value, *_ in assumptions(price))
    text = [
        f"### Monthly cost of {environment}: {headline}",
        "",
        *([*head, *changed, ""] if changed else []),
        *(f"> {line}\n" for line in age_warning(price, today)),
        f"On-demand prices of {price.data['date']} in {price.region}, {HOURS} hours, no tax; "
        f"assumed: {assumed}. MWAA, SageMaker's MLflow server and the same serving would cost "
        f"{theirs:,.2f} USD.",
    ]
    return "\n".join(text)


def for_review(environment: Environment, plan: Plan) -> str:
    """The cost of a plan that Terraform saved, as Markdown.

    Raises:
        OpsError: a resource cannot be priced.
    """
    resources = read_plan(plan)
    price = Prices.of(environment.project, resources.region)
    return as_markdown(environment.name, resources, price, datetime.date.today())
