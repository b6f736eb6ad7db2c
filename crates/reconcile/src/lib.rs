//! A level-triggered reconcile loop: queue, backoff, resync, panic containment, spans.
