import numpy as np
import pytest
import torch

from mmarcface.functional.templates import pool_templates


def naive_templates(vectors, template, media, weights):
    pooled = []
    for t in range(max(template) + 1):
        total = np.zeros(vectors.shape[1])
        for m in sorted({m for own, m in zip(template, media, strict=True) if own == t}):
            images = [
                vector * weight
                for vector, own, medium, weight in zip(
                    vectors, template, media, weights, strict=True
                )
                if (own, medium) == (t, m)
            ]
            total += sum(images) / len(images)
        length = np.sqrt((total**2).sum())
        pooled.append(total / length if length else total)
    return np.stack(pooled)


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('weighted', [False, True])
def test_equals_a_naive_double_loop(seed, weighted):
    generator = np.random.default_rng(seed)
    number, num_templates = 60, 7
    vectors = generator.normal(size=(number, 5))
    # Each template is there; media 0 to 4 are in several of them.
    template = generator.permutation(np.arange(number) % num_templates)
    media = generator.integers(0, 5, number) * 1000
    weights = generator.random(number) if weighted else np.ones(number)
    found = pool_templates(
        *map(torch.from_numpy, (vectors, template, media)),
        torch.from_numpy(weights) if weighted else None,
    )
    expected = naive_templates(vectors, template.tolist(), media.tolist(), weights)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-12)


def test_inputs_are_kept_and_vectors_that_cancel_out_are_0():
    vectors = torch.tensor([[1.0, 2.0], [-1.0, -2.0], [3.0, 0.0]])
    kept = vectors.clone()
    weights = torch.tensor([0.5, 0.5, 2.0])
    found = pool_templates(vectors, torch.tensor([0, 0, 1]), torch.tensor([4, 4, 4]), weights)
    assert found.tolist() == [[0, 0], [1, 0]]
    assert torch.equal(vectors, kept)
