"""A realistic finished run, private and not, for the tests of result, report and terminal."""

from datetime import UTC, datetime

import pytest

from fedward.simulations.result import RunResult, headline_of

PATIENTS = {"alder": 204, "birch": 252, "cedar": 300, "elm": 396, "hazel": 552, "willow": 792}
ALONE = [0.741, 0.768, 0.772, 0.779, 0.803, 0.811]
FEDERATED = [0.829, 0.836, 0.818, 0.847, 0.834, 0.846]


def document() -> dict:
    curve = [
        {
            "round": turn,
            "measures": {
                "auroc": round(0.842 - 0.31 * 0.6**turn + 0.007 * (-1) ** turn, 4),
                "log_loss": round(0.47 + 0.23 * 0.68**turn + 0.004 * (-1) ** turn, 4),
            },
            "epsilon": round(8.0 * (turn / 10) ** 0.62, 3) if turn else 0.0,
        }
        for turn in range(11)
    ]
    hospitals = [
        {
            "name": name,
            "train_units": patients,
            "evaluation_units": round(patients / 1.5),
            "positives": round(patients * 0.13),
            "alone": alone,
            "alone_interval": (alone - 0.06, alone + 0.055),
            "alone_everywhere": alone - 0.01,
            "federated": federated,
            "federated_interval": (federated - 0.05, federated + 0.045),
            "epsilon": 7.998,
        }
        for (name, patients), alone, federated in zip(PATIENTS.items(), ALONE, FEDERATED, strict=True)
    ]
    return {
        "fedward_version": "0.1.0",
        "created": datetime(2026, 11, 23, 14, 5, tzinfo=UTC),
        "scenario": {
            "name": "default",
            "hospitals": 6,
            "task": "mortality",
            "outcome": "in-hospital death",
            "model": "tiny-clinical",
            "strategy": "ffa",
            "seed": 1,
        },
        "rounds": 10,
        "headline": headline_of("mortality").model_dump(),
        "scores": {
            "federated": 0.8376,
            "federated_interval": (0.812, 0.861),
            "local_mean": 0.7712,
            "local_own_mean": sum(ALONE) / 6,
            "central": 0.8491,
            "central_interval": (0.825, 0.872),
            "best_possible": 0.8702,
        },
        "hospitals": tuple(hospitals),
        "privacy": {
            "private": True,
            "epsilon_max": 7.998,
            "delta": 1e-5,
            "placement": "local",
            "mechanism": "DP-SGD: per-patient clipping and Gaussian noise (Abadi et al. 2016)",
            "sampler": "Poisson over patients",
            "sampling_rate": 0.2,
            "steps": 40,
            "expected_batch": 80.0,
            "noise_multiplier": 0.8723,
            "clip": 0.5,
            "accountant": "PLD",
            "cross_check": {"accountant": "PRV", "epsilon": 8.021, "rdp_epsilon": 9.164, "agrees": True},
            "release": {
                "statistics": ("mean clipped loss", "number of patients"),
                "releases": 2,
                "noise_multiplier": 6.41,
                "epsilon": 0.71,
                "delta": 1e-5,
            },
            "evaluation": {
                "statistics": ("score histogram by outcome",),
                "releases": 11,
                "noise_multiplier": 4.86,
                "epsilon": 7.97,
                "delta": 1e-5,
            },
            "not_covered": (
                "A patient treated at two hospitals: the epsilons add.",
                "Anything a hospital publishes outside this run.",
                "The base model and its pre-training.",
            ),
        },
        "secure_sum": {"exact": True, "ring_bits": 32, "threshold": 4, "colluders": 1, "cohort": 6},
        "bytes_per_round_per_hospital": 11_934.0,
        "egress": (
            {
                "message": "Masked vector",
                "content": "adapter change, loss, counts and AUROC histogram as one sum segment",
                "protection": "one-time masks; readable only in the sum",
                "bytes": 8712.0,
            },
            {
                "message": "Share package",
                "content": "shares of this round's one-time secrets",
                "protection": "encrypted to each hospital (AES-256-GCM), signed",
                "bytes": 2790.0,
            },
            {
                "message": "Confirmation",
                "content": "which hospitals are in the sum",
                "protection": "signed (Ed25519)",
                "bytes": 96.0,
            },
            {
                "message": "Unmask shares",
                "content": "shares that cancel masks of the sum",
                "protection": "never both kinds for one hospital",
                "bytes": 336.0,
            },
        ),
        "curve": tuple(curve),
        "base_model": {"name": "tiny-clinical", "sha256": "9f" * 32},
        "adapter": {"parameters": 2113, "total": 203_457},
        "adapter_sha256": "3c" * 32,
        "seconds": {"total": 74.2, "data": 2.1, "federated": 31.8, "comparison": 40.3},
    }


@pytest.fixture
def result() -> RunResult:
    return RunResult.model_validate(document())


@pytest.fixture
def public_result() -> RunResult:
    """A run without differential privacy on real data: many values do not exist."""
    raw = document()
    raw["privacy"] |= {
        "private": False,
        "epsilon_max": None,
        "delta": None,
        "noise_multiplier": None,
        "clip": None,
        "accountant": None,
        "cross_check": None,
        "release": None,
        "mechanism": "SGD on sums over patients, without clipping and noise",
    }
    raw["privacy"]["evaluation"] = None
    raw["non_private_reasons"] = ("The scenario trains without differential privacy.",)
    raw["scores"] |= {"best_possible": None, "central": None, "central_interval": None}
    raw["hospitals"] = tuple(row | {"epsilon": None} for row in raw["hospitals"])
    raw["curve"] = tuple(point | {"epsilon": None} for point in raw["curve"])
    return RunResult.model_validate(raw)
