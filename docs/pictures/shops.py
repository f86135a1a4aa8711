"""The pipeline whose runs are in the pictures of the documentation; its tasks sleep instead of working."""

from __future__ import annotations

import random
from time import sleep

from flowkit import DAG, current, task

SHOPS = ["Bergen", "Bern", "Cork", "Delft", "Gent", "Graz", "Lille", "Lund", "Lyon", "Malmö", "Oslo", "Porto"]
WEEKS = 4


@task
def list_shops():
    """Return the names of the shops."""
    sleep(0.2)
    return [f"{shop} {number}" for shop in SHOPS for number in (1, 2)]


@task
def read_sales(shop, *, day):
    """Return the sales of a shop as pairs of an item and a price."""
    chance = random.Random(shop)
    sleep(chance.uniform(0.1, 0.5))
    price = None if (shop, day) == ("Oslo 2", "2026-11-29") else 4.5
    return [("tea", price)] + [("kettle", 39.0)] * chance.randint(1, 3)


@task(retries=2, delay=0.3)
def fetch_rates():
    """Return the exchange rates; the first call fails."""
    sleep(0.4)
    if current().attempt == 1:
        raise ConnectionError("it is busy")
    return {"NOK": 0.085, "SEK": 0.091}


@task
def convert(sales, rates):
    """Return the sales in one currency."""
    sleep(0.5)
    return [sale for shop in sales for sale in shop]


@task
def revenue(sales):
    """Return the sum of the prices."""
    sleep(0.3)
    for item, price in sales:
        if price is None:
            raise ValueError(f"an order of {item!r} has no price")
    return sum(price for _, price in sales)


@task
def bestsellers(sales):
    """Return the items, most frequent first."""
    sleep(0.6)
    items = [item for item, _ in sales]
    return sorted(set(items), key=items.count, reverse=True)


@task
def forecast(sales):
    """Return the expected number of sales in the coming weeks."""
    sleep(0.2 * WEEKS)
    return len(sales) * WEEKS


@task
def report(revenue, bestsellers, forecast):
    """Return the text of the report."""
    sleep(0.2)
    return f"{revenue:.2f} taken, mostly with {bestsellers[0]}; {forecast} sales expected"


@task
def send(report):
    """Send the report."""
    sleep(0.1)


list_shops >> read_sales.map() >> convert
fetch_rates >> convert >> [revenue, bestsellers, forecast] >> report >> send

dag = DAG("shops", tasks=[send], max_workers=4)
