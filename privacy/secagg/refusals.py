"""Every reason for which a hospital or the coordinator says no, one class and one code each.

Only the code travels: a refusal's text stays in the log of the party that refused, and no text here
contains a value from the data. Codes 002-009 concern any signed message, 010-019 the roster, 020-029
the key epoch, 030-049 the manifest, 050-059 packages, 060-069 survivors and confirmations, 070-079
unmasking, 080-089 results and 090-099 replies at the coordinator.
"""

# ruff: noqa: N818 - a class says what was refused; "RefusedError" would say no more.

from __future__ import annotations

from fedward.errors import IntegrityError, ResourceError, RunFailedError


class RefusalError(IntegrityError):
    """Base of all refusals of the protocol; never raised itself."""

    code = "FW-SECAGG-001"
    default_fix = "Do not repeat the request; ask the coordinator's operator what was sent, and why."


class SignatureRefused(RefusalError):
    """A signature does not verify under the key that the approved roster names."""

    code = "FW-SECAGG-002"
    exit_code = 7


class OldContextRefused(RefusalError):
    """A leg names a context that is not the live one: an earlier attempt or round was given up for good."""

    code = "FW-SECAGG-003"


class LegOrderRefused(RefusalError):
    """A leg came before the one that must precede it."""

    code = "FW-SECAGG-004"


class SecondRequestRefused(RefusalError):
    """A different request for a leg of this context that was answered already."""

    code = "FW-SECAGG-005"


# --- roster -------------------------------------------------------------------------------------


class RosterRefused(RefusalError):
    """A roster is not well formed: names unsorted or double, keys shared, or c out of range."""

    code = "FW-SECAGG-010"


class RosterNotApprovedRefused(RefusalError):
    """This hospital has not approved this very roster."""

    code = "FW-SECAGG-011"
    exit_code = 5
    default_fix = "Compare the fingerprints with every hospital by another channel, then run `fedward roster approve`."


class ApprovalRefused(RefusalError):
    """An approval on the roster is not a valid signature of the member it names."""

    code = "FW-SECAGG-012"


class PeerNotApprovedRefused(RefusalError):
    """A key bundle comes from a hospital that has not approved the same roster."""

    code = "FW-SECAGG-013"
    exit_code = 5


class NotAMemberRefused(RefusalError):
    """This hospital's name and identity key are not in the roster."""

    code = "FW-SECAGG-014"
    exit_code = 5


class RosterPinRefused(RefusalError):
    """The roster names another base model, adapter layout or client code than this hospital runs."""

    code = "FW-SECAGG-015"


class TwoPartyRefused(RefusalError):
    """A roster with c = 0 is accepted only where the hospital allows `unsafe_two_party`, too."""

    code = "FW-SECAGG-016"
    exit_code = 5


class FingerprintRefused(RefusalError):
    """The roster is another one than that whose fingerprint was read out."""

    code = "FW-SECAGG-017"
    exit_code = 5
    default_fix = "Ask the others for their copy and compare again; do not approve this one."


# --- key epoch ----------------------------------------------------------------------------------


class OldEpochRefused(RefusalError):
    """A key epoch that is not newer than the highest one seen."""

    code = "FW-SECAGG-020"


class EpochExpiredRefused(RefusalError):
    """The key epoch is older than the roster's policy allows."""

    code = "FW-SECAGG-021"
    default_fix = "The coordinator starts a new key epoch."


class EpochMismatchRefused(RefusalError):
    """A message belongs to another key epoch, roster or run than the live one."""

    code = "FW-SECAGG-022"


class KeyBundleRefused(RefusalError):
    """A key bundle is not signed by the hospital it speaks for: keys were substituted."""

    code = "FW-SECAGG-023"
    exit_code = 7


class CiphertextRefused(RefusalError):
    """A KEM ciphertext is not signed by its sender for this hospital and epoch."""

    code = "FW-SECAGG-024"
    exit_code = 7


class RunRefused(RefusalError):
    """The run is not the approved one: the plan's approval serves another run, or the name another plan."""

    code = "FW-SECAGG-025"
    exit_code = 5
    default_fix = "An approved plan is run once. To run it again, approve the new run by its name; it is charged again."


# --- manifest -----------------------------------------------------------------------------------


class ManifestSignatureRefused(RefusalError):
    """A round manifest is not signed by the coordinator of the roster."""

    code = "FW-SECAGG-030"
    exit_code = 7


class ReplayRefused(RefusalError):
    """A manifest's sequence number, or its round and attempt, is not newer than the last accepted one."""

    code = "FW-SECAGG-031"


class CohortRefused(RefusalError):
    """The cohort is unsorted, has a name twice or a stranger, or leaves this hospital out."""

    code = "FW-SECAGG-032"


class ThresholdRefused(RefusalError):
    """The threshold rule t >= floor((n0 + c) / 2) + 1, t - c >= 2, t <= |cohort| does not hold."""

    code = "FW-SECAGG-033"
    exit_code = 5


class MinCohortRefused(RefusalError):
    """The cohort is smaller than this hospital or the roster's policy allows."""

    code = "FW-SECAGG-034"
    exit_code = 5


class ModelPinRefused(RefusalError):
    """The manifest names another base model than the pinned one."""

    code = "FW-SECAGG-035"


class LayoutPinRefused(RefusalError):
    """The manifest's vector layout is not one of the approved ones, or its hash is not the layout's."""

    code = "FW-SECAGG-036"


class PlanPinRefused(RefusalError):
    """The manifest names another plan than the approved one, or a round beyond its last."""

    code = "FW-SECAGG-037"
    exit_code = 5


class CodePinRefused(RefusalError):
    """The manifest names other client code than this hospital runs."""

    code = "FW-SECAGG-038"


class DeadlineRefused(RefusalError):
    """The manifest's deadline has passed."""

    code = "FW-SECAGG-039"


class RetryRefused(RefusalError):
    """A retry changes the first cohort, the threshold, the adapter or the layout of its round."""

    code = "FW-SECAGG-040"


class RoundReleasedRefused(RefusalError):
    """This hospital has sent its unmask shares for the round; the round cannot be tried again."""

    code = "FW-SECAGG-041"


class ChainRefused(RefusalError):
    """The manifest does not continue the chain of results this hospital has checked."""

    code = "FW-SECAGG-042"


class VectorRefused(RefusalError):
    """The local vector does not fit the leg: other layout, none where one is due, or a second one."""

    code = "FW-SECAGG-043"


class AdapterPinRefused(RefusalError):
    """The first manifest of a run starts from another adapter than the approved plan does."""

    code = "FW-SECAGG-044"


# --- packages -----------------------------------------------------------------------------------


class TooFewPackagesRefused(RefusalError):
    """Fewer share packages than the threshold."""

    code = "FW-SECAGG-050"
    exit_code = 10


class HeadSignatureRefused(RefusalError):
    """A share package's head is not signed by its hospital for this context."""

    code = "FW-SECAGG-051"
    exit_code = 7


class HeadsRefused(RefusalError):
    """The heads leave this hospital out, alter its head, or name a stranger."""

    code = "FW-SECAGG-052"


class ShareRefused(RefusalError):
    """A hospital's share mail is missing, does not open, or does not match its commitment.

    ``complaint`` holds this hospital's signed complaint, to be sent in place of the masked vector.
    """

    code = "FW-SECAGG-053"

    def __init__(self, message: str, *, complaint: bytes, fix: str | None = None) -> None:
        super().__init__(message, fix=fix)
        self.complaint = complaint


class PairCommitmentRefused(ShareRefused):
    """A hospital committed to another pair seed than this one: their masks would not cancel."""

    code = "FW-SECAGG-054"


# --- survivors and confirmations ----------------------------------------------------------------


class TooFewSurvivorsRefused(RefusalError):
    """Fewer survivors than the threshold: the sum would cover too few honest hospitals."""

    code = "FW-SECAGG-060"
    exit_code = 10


class NotASurvivorRefused(RefusalError):
    """This hospital is left out of the survivors, or its upload's digest was altered."""

    code = "FW-SECAGG-061"


class SurvivorSignatureRefused(RefusalError):
    """A survivor's upload is not signed by it for this context and these heads."""

    code = "FW-SECAGG-062"
    exit_code = 7


class SecondConfirmRefused(RefusalError):
    """A second survivor set for a context in which one was confirmed."""

    code = "FW-SECAGG-063"


# --- unmasking ----------------------------------------------------------------------------------


class TooFewConfirmsRefused(RefusalError):
    """Fewer valid confirmations of this hospital's own statement than the threshold."""

    code = "FW-SECAGG-070"
    exit_code = 10


class SecondUnmaskRefused(RefusalError):
    """A second, different unmask request for one context."""

    code = "FW-SECAGG-071"


# --- results ------------------------------------------------------------------------------------


class ResultSignatureRefused(RefusalError):
    """A result is not signed by the coordinator of the roster."""

    code = "FW-SECAGG-080"
    exit_code = 7


class ResultRefused(RefusalError):
    """A result's round, survivors, transcript or sum are not those of its manifest, its confirmations or the sum."""

    code = "FW-SECAGG-081"


class FalseSumRefused(RefusalError):
    """The published sum is not the sum of the survivors' uploads without their masks."""

    code = "FW-SECAGG-082"


class EvidenceRefused(RefusalError):
    """The evidence for a sum does not match the signed heads and uploads this hospital confirmed."""

    code = "FW-SECAGG-083"


class ReplayedUpdateRefused(RefusalError):
    """The next adapter is not what the strategy makes of the published sum."""

    code = "FW-SECAGG-084"


class EquivocationRefused(RefusalError):
    """A result or manifest contradicts what this hospital confirmed, released or was shown before."""

    code = "FW-SECAGG-085"
    default_fix = "Stop the run and compare results with the other hospitals: the coordinator signed two histories."


class WitnessRefused(RefusalError):
    """A result comes without a genuine manifest, signed uploads and t signed confirmations of its survivors."""

    code = "FW-SECAGG-086"
    default_fix = "Ask the coordinator for the result with its evidence; without it the round cannot be believed."


# --- at the coordinator -------------------------------------------------------------------------


class ReplyRefused(RefusalError):
    """A hospital's reply is malformed, unsigned, for another context, or from outside the leg."""

    code = "FW-SECAGG-090"


class BlamedRefused(RefusalError):
    """A hospital's reply contradicts what it signed before, which proves the fault is its own."""

    code = "FW-SECAGG-091"


class RoundLostError(RunFailedError):
    """A round cannot be unmasked any more, and its vectors are erased; the next round starts without the liars."""

    code = "FW-SECAGG-092"
    default_fix = "Start the next round; the hospitals named in the round's blame are left out."


class JournalError(IntegrityError):
    """The protocol's journal cannot be read with this key: altered, truncated, or another key."""

    code = "FW-SECAGG-093"
    default_fix = "Start a new key epoch with a fresh journal; never restore an old copy of one."


class FolderInUseError(ResourceError):
    """Another process has this party's state folder open; two would use the same one-time keys."""

    code = "FW-SECAGG-094"
    default_fix = "Stop the other fedward process that uses this state folder; a folder serves one process at a time."
