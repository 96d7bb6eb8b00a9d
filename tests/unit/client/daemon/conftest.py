import datetime
import os
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fedward.agreements.code import plan_code_hash
from fedward.agreements.enrolment import EnrolmentAnswer, code_key, new_code, open_request, seal_answer
from fedward.agreements.proposal import PlanTerms, Proposal, sign_proposal
from fedward.client.daemon.folders import SiteFolders, enrol, join, request_hash
from fedward.client.daemon.settings import ClientConfig
from fedward.config import parse
from fedward.plan import Plan
from fedward.privacy.secagg.crypto import Identity, fingerprint

MODEL = "ab" * 32
NOW = 1_000_000


def document(folder, **policy):
    return {
        "site": {"name": "st-anna", "state_dir": str(folder)},
        "coordinator": {"url": "https://127.0.0.1:9"},
        "data": {"icu": {"path": str(folder / "data"), "format": "mimic-iii"}},
        "policy": {
            "min_units": 20,
            "max_epsilon_per_run": 8.0,
            "max_epsilon_lifetime": 9.0,
            "allowed_base_models": [f"sha256:{MODEL}"],
            **policy,
        },
    }


class Ca:
    """A coordinator's side of an enrolment, as far as a site can tell."""

    def __init__(self):
        self.identity = Identity.from_seed("coordinator", os.urandom(32))
        self.key = ec.generate_private_key(ec.SECP384R1())
        self.root = self._certificate("ca", self.key.public_key(), ca=True)

    def answer(self, sent, key=b"", **changes):
        read, _ = open_request(sent)
        csr = x509.load_der_x509_csr(read.csr)
        fields = {
            "federation": "demo",
            "site": read.site,
            "request": request_hash(sent),
            "coordinator": self.identity.public,
            "certificate": self._pem(self._certificate(read.site, csr.public_key(), ca=False)),
            "ca": self._pem(self.root),
            **changes,
        }
        return seal_answer(EnrolmentAnswer(**fields), self.identity, key)

    def _certificate(self, name, public, *, ca):
        now = datetime.datetime.now(datetime.UTC)
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")])
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(issuer)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .sign(self.key, hashes.SHA256())
        )

    @staticmethod
    def _pem(certificate):
        return certificate.public_bytes(serialization.Encoding.PEM)


@pytest.fixture
def ca():
    return Ca()


@pytest.fixture
def configure(tmp_path):
    return lambda **policy: parse(document(tmp_path / "state", **policy), ClientConfig, source="test")


@pytest.fixture
def raw(tmp_path):
    return document(tmp_path / "state")


@pytest.fixture
def folders(configure):
    made = SiteFolders(configure().folder)
    made.make()
    return made


@pytest.fixture
def joined(folders, ca):
    """A site that has joined ``ca``."""
    key = code_key(new_code())
    request = enrol(folders, "st-anna", key)
    join(folders, "st-anna", ca.answer(request, key), spoken=fingerprint(ca.identity.public))
    return folders


@pytest.fixture
def propose(ca, tmp_path):
    """Writes a signed plan and returns its path."""

    def make(
        run="icu-1", *, plan=None, signer=None, federation="demo", days=30, code=None, name="plan.fedward", **said
    ):
        plan = plan or Plan(
            name="icu",
            base_model_sha256=MODEL,
            privacy={"noise_multiplier": 4.0, "evaluation_noise_multiplier": 20.0, "release_noise_multiplier": 40.0},
        )
        plan_bytes = said.pop("plan_bytes", plan.model_dump_json().encode())
        terms = {
            "plan": plan_bytes,
            "plan_hash": plan.hash(),
            "base_model_hash": bytes.fromhex(plan.base_model_sha256),
            "adapter_layout_hash": b"l" * 32,
            "initial_adapter_hash": b"i" * 32,
            "family": "bert",
            "code_hash": code or plan_code_hash(plan, "bert"),
            "parameters": 1000,
        }
        path = tmp_path / name
        proposal = Proposal(federation, run, PlanTerms(**{**terms, **said}), NOW, NOW + days * 86_400)
        path.write_bytes(sign_proposal(proposal, signer or ca.identity))
        return path

    return make


@pytest.fixture
def at():
    return SimpleNamespace(now=float(NOW))
