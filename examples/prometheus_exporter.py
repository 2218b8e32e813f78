"""A Prometheus exporter on the events of asyncwb: pass `Metrics("users")` as observer. Needs prometheus-client.
Run it, then look at http://127.0.0.1:9464/metrics.
"""

import asyncio

from prometheus_client import Counter, Gauge, Histogram, start_http_server

import asyncwb

SAVED = Counter("asyncwb_saved_records", "records that the backend holds because of this process", ["namespace"])
STALE = Counter("asyncwb_stale_records", "of them, those that were older than what it held", ["namespace"])
CONFLICTS = Counter("asyncwb_conflicts", "of them, those that were written again during their save", ["namespace"])
SECONDS = Histogram("asyncwb_flush_seconds", "from the claim of a batch until it is settled", ["namespace"])
COUNTED = {
    asyncwb.Retried: Counter("asyncwb_retries", "attempts that failed and are made again", ["namespace"]),
    asyncwb.Bisected: Counter("asyncwb_bisected_batches", "batches that were saved in parts", ["namespace"]),
    asyncwb.DeadLetter: Counter("asyncwb_dead_letters", "records that were given up", ["namespace"]),
    asyncwb.FlusherCrashed: Counter("asyncwb_flusher_crashes", "flushers that a bug has ended", ["namespace"]),
    asyncwb.TaskCrashed: Counter("asyncwb_task_crashes", "other background work that a bug has ended", ["namespace"]),
    asyncwb.BatchSizeChanged: Counter("asyncwb_batch_size_changes", "new sizes of batches", ["namespace"]),
}
OUTAGE = Gauge("asyncwb_backend_outage", "1 while the backend takes nothing", ["namespace"])
CONNECTED = Gauge("asyncwb_redis_up", "1 while Redis can be reached", ["namespace"])
SUITABLE = Gauge("asyncwb_redis_suitable", "0 while Redis is configured so that it could lose writes", ["namespace"])
FULL = Gauge("asyncwb_full", "1 while a limit keeps writes out", ["namespace", "partition"])
EPOCH = Gauge("asyncwb_epoch", "which history of Redis this is", ["namespace", "partition"])


class Metrics:
    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        CONNECTED.labels(namespace).set(1)
        SUITABLE.labels(namespace).set(1)

    def __call__(self, event: asyncwb.Event) -> None:
        if isinstance(event, asyncwb.Saved):
            for counter, count in ((SAVED, event.records), (STALE, event.stale), (CONFLICTS, event.changed)):
                counter.labels(self.namespace).inc(count)
            SECONDS.labels(self.namespace).observe(event.seconds)
        elif isinstance(event, asyncwb.CircuitChanged):
            OUTAGE.labels(self.namespace).set(event.open)
        elif isinstance(event, asyncwb.ConnectionChanged):
            CONNECTED.labels(self.namespace).set(event.up)
        elif isinstance(event, asyncwb.SuitabilityChanged):
            SUITABLE.labels(self.namespace).set(event.suitable)
        elif isinstance(event, asyncwb.FullChanged):
            FULL.labels(self.namespace, event.partition).set(event.full)
        elif isinstance(event, asyncwb.EpochChanged):
            EPOCH.labels(self.namespace, event.partition).set(event.epoch)
        else:
            COUNTED[type(event)].labels(self.namespace).inc()


async def main() -> None:
    start_http_server(9464, addr="127.0.0.1")
    async with asyncwb.Buffer(None, backend="sqlite:///app.db", namespace="users", observer=Metrics("users")) as users:
        await asyncio.gather(*(users.set(f"user{number}", {"visits": number}) for number in range(10_000)))
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
