"""A vendor without a socket, asked after each minute, is streamed like any other."""

from datetime import timedelta

from candlecast.errors import ProviderUnavailable
from candlecast.pipelines.polling import PollingSource
from candlecast.pipelines.replay import ReplayClock
from candlecast.store.coverage import read_coverage
from stream_feeds import CLOSE, MINUTE, ONE, Vendor, archived, opened, played, seeded_bars, values

START = CLOSE - 30 * MINUTE
N_MINUTES = 12


class Starting(PollingSource):
    """Lets the time run when the first feed is opened."""

    def open_feed(self, clock):
        clock.run()
        return super().open_feed(clock)


def polled(home, archive_errors=()):
    """Twelve minutes of two symbols, a minute in a tenth of a second; every fifth is silent."""
    bars = [item for item in seeded_bars(["A", "B"], START, N_MINUTES) if item.ts.minute % 5]
    clock = ReplayClock(START + timedelta(seconds=1), speed=600)
    end = START + (N_MINUTES + 8) * MINUTE  # 0.7 s for the last answer, on a busy machine
    vendor = Vendor(clock, [], archived(bars), end=end, archive_errors=list(archive_errors))
    run, stored, told = played(vendor, home, ["A", "B"], feed=Starting(vendor))
    stores = opened(home, clock)
    coverage = read_coverage(stores.database, ONE)
    stores.close()
    return bars, run, stored, coverage, told


def test_polled_bars_are_stored_once_and_silent_minutes_are_covered(tmp_path):
    bars, run, stored, coverage, _ = polled(tmp_path)
    assert values(stored) == values(bars)
    assert run.n_revised == 0
    assert coverage["symbol"].to_list() == ["A", "B"]
    assert (coverage["start_at"] <= START + MINUTE).all()
    assert (coverage["end_at"] >= START + N_MINUTES * MINUTE).all()


def test_a_vendor_that_fails_for_a_while_is_asked_again_and_loses_nothing(tmp_path):
    errors = [ProviderUnavailable("maintenance")] * 3
    bars, run, stored, _, told = polled(tmp_path, errors)
    assert values(stored) == values(bars)
    assert run.n_connections >= 1
    assert any("maintenance" in line for line in told)
