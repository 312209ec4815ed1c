"""Records, bans and labels for hypothesis: few names, so that they meet; and only what a records file may say."""

from hypothesis import strategies as st

from meta.records.model import Ban, Override, Record, RecordSet, Release, matcher, resolve_matched, selectors
from meta.records.publications import Publication
from meta.records.selectors import Glob, Hosts, Label, Prefix

HOSTNAMES = st.sampled_from(["h1", "h2", "lg-1.x", "lg-2", "x"])
AGENTS = st.sampled_from(["a", "b", "c", "d"])
VERSIONS = st.sampled_from(["1", "2", "1.10"])
BASES = st.sampled_from(["http://r", "https://s/x"])
DIGEST_FILES = st.sampled_from(["", "http://sums"])
MD5S = st.sampled_from(["", "0" * 32, "http://sums"])
USERS = st.sampled_from(["", "moni", "_x-1.y"])
DIRECTORIES = st.sampled_from(["", "/srv/agents", "/a"])
LEFTOVERS = st.sampled_from(["", "leave", "end"])
UNKNOWN_STATUS = st.sampled_from(["", "wait", "upgrade"])
COMMANDS = st.sampled_from(["start", "stop"])
RELEASES = st.builds(Release, VERSIONS, st.sampled_from(["", "0" * 32]), st.sampled_from(["", "a" * 64]))
SELECTORS = st.one_of(
    st.sampled_from(["h", "lg-", "x"]).map(Prefix),
    st.sampled_from(["*", "*-?.x", "h[12]", "lg-*", "h1"]).map(Glob),
    st.frozensets(HOSTNAMES, min_size=1).map(Hosts),
    st.sampled_from(["env=staging", "env=live", "env", "gpu"]).map(Label),
)
SIZES = st.integers(1, 1 << 40)
LABELS = st.dictionaries(st.sampled_from(["env", "gpu"]), st.sampled_from(["", "staging", "live"]), min_size=1)
BANS = st.builds(Ban, AGENTS, VERSIONS, st.sampled_from(["", "it crashes"]), st.sampled_from(["", "ann"]), st.just(1.0))


def resolve(records, hostname):
    """What this host is to run."""
    return resolve_matched(records, frozenset(filter(matcher(records, hostname), selectors(records))))


@st.composite
def overrides(draw):
    fields = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "release": RELEASES,
                "md5_base": DIGEST_FILES,
                "cmd": COMMANDS,
                "tarball": BASES,
                "run_user": USERS,
                "work_dir": DIRECTORIES,
                "leftovers": LEFTOVERS,
                "unknown_status": UNKNOWN_STATUS,
            },
        ).filter(bool)
    )
    if "release" in fields and fields["release"].md5:
        fields.pop("md5_base", None)
    if "tarball" in fields:
        fields["mirrors"] = draw(st.lists(BASES, max_size=2).map(tuple))
    return Override(draw(SELECTORS), **fields)


RECORDS = st.builds(
    Record,
    AGENTS,
    RELEASES,
    BASES,
    cmd=COMMANDS,
    mirrors=st.lists(BASES, max_size=2).map(tuple),
    overrides=st.lists(overrides(), max_size=3).map(tuple),
    run_user=USERS,
    work_dir=DIRECTORIES,
    leftovers=LEFTOVERS,
    unknown_status=UNKNOWN_STATUS,
) | st.builds(Record, AGENTS, st.builds(Release, VERSIONS), BASES, md5_base=DIGEST_FILES)
RECORD_LISTS = st.lists(RECORDS, max_size=4, unique_by=lambda record: record.name).map(tuple)
RECORD_SETS = st.builds(
    RecordSet,
    records=RECORD_LISTS,
    bans=st.lists(BANS, max_size=3, unique_by=lambda ban: (ban.agent, ban.version)).map(
        lambda bans: tuple(sorted(bans, key=lambda ban: (ban.agent, ban.version)))
    ),
    labels=st.dictionaries(HOSTNAMES, LABELS, max_size=3),
    published=st.dictionaries(
        st.sampled_from(["a-1.tar.gz", "b-2.tar.gz"]), st.builds(Publication, AGENTS, VERSIONS, SIZES, MD5S, MD5S)
    ),
)
