"""The rules language (DESIGN.md section 4): a text to a Ruleset, or a mistake told in its place.

Imports run one way here: source, nodes; situation, syntax, parser; sets, tables, quota; lookups, outside;
scope; logic, comparing, equality, membership, comparisons; conditions, templates; actions; readers,
allowances, charging; ruleset; compiler; rehearsal, expects; load, followed. Nothing here knows a wire or a
real store.
"""

from mailreeve_policyd.rules.load import load_ruleset, parse_ruleset
from mailreeve_policyd.rules.reference import actions_reference, facts_reference
from mailreeve_policyd.rules.ruleset import Rule, Ruleset

__all__ = ["Rule", "Ruleset", "actions_reference", "facts_reference", "load_ruleset", "parse_ruleset"]
