"""The program held against the transforms and inferers that it stands for, on a CPU, saved and loaded again."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from monai.data import MetaTensor
from monai.networks.nets import DynUNet
from monai.networks.schedulers import DDPMScheduler

from custom.export.torchscript import chain_program, cut_to_brain
from custom.inference.inferers import BrainSliceInferer
from custom.preprocessing.channels import StackChannelsd
from custom.preprocessing.intensities import ScaleIntensityInBraind
from custom.preprocessing.residual import Residuald
from custom.preprocessing.slicing import PLANES, brain_box, pad_to_multiple
from custom.preprocessing.uptake import Uptaked
from custom.synthesis.anchored_inferer import AnchoredInferer
from custom.synthesis.modality_unet import ModalityUNet
from custom.synthesis.sampler import sample
from tests.studies import bad_input

CHANNELS = ("flair", "t1", "t2", "t1ce", "residual", "uptake")
SCHEDULE = DDPMScheduler(num_train_timesteps=1000, schedule="linear_beta", prediction_type="sample")


def study(shape, missing=(), seed=0):
    """A study (4, H, W, D) with a brain that does not fill it, of intensities as scanners give them."""
    noise = torch.randn(4, *shape, generator=torch.Generator().manual_seed(seed))
    rows, columns, depths = (2 * (torch.arange(size) + 0.5) / size - 1 for size in shape)
    inside = (rows + 0.1)[:, None, None] ** 2 + columns[:, None] ** 2 + 1.2 * depths**2 < 0.7
    image = inside * (200 + 40 * noise).clamp(1)
    image[list(missing)] = 0
    return image


class Ordinary:
    """The chain as the bundles run it."""

    def __init__(self, amp=False, steps=2, margin=1.5):
        torch.manual_seed(0)
        self.scaling = ScaleIntensityInBraind()
        self.uptake = Uptaked(margin)
        self.synthesizer = ModalityUNet(13, (16, 16, 16)).eval()
        for weights in self.synthesizer.parameters():
            torch.nn.init.normal_(weights, std=0.1)
        self.synthesis, self.flair = (
            AnchoredInferer(SCHEDULE, partial(sample, steps=steps, eta=0.0), target, seed=3, amp=amp)
            for target in ("t1ce", "flair")
        )
        self.segmenter = DynUNet(
            2, 3 * len(CHANNELS), 3, [3] * 5, [1, 2, 2, 2, 2], [2] * 4, filters=[4, 8, 8, 8, 8]
        ).eval()
        self.segmentation = BrainSliceInferer(
            CHANNELS, neighbours=1, planes=tuple(PLANES), flip=True, amp=amp, outside=-20.0
        )

    @torch.no_grad()
    def __call__(self, image):
        data = self.scaling({"image": MetaTensor(image)})
        data["t1ce_synthetic"] = torch.zeros_like(data["image"][:1])
        there = data["image"].flatten(1).any(dim=1)
        if there[:3].all():
            channels = self.synthesis(data["image"][None], self.synthesizer)[0].split(1)
            data |= {
                name: torch.zeros_like(data["image"][:1]).copy_(channel)
                for name, channel in zip(("t1ce_synthetic", "deviation"), channels, strict=True)
            }
        elif there[1:].all():
            data["image"][:1] = self.flair(data["image"][None], self.synthesizer)[0, :1]
        for step in (self.uptake, Residuald(), StackChannelsd()):
            data = step(data)
        return torch.as_tensor(self.segmentation(data["image"][None], self.segmenter))

    def program(self):
        networks = (self.synthesis, self.synthesizer, self.segmentation, self.segmenter)
        return chain_program(self.scaling, *networks, margin=self.uptake.margin, fills_flair=True)


@pytest.fixture(scope="module")
def ordinary():
    return Ordinary()


@pytest.fixture(scope="module")
def program(ordinary, tmp_path_factory):
    file = tmp_path_factory.mktemp("program") / "model.ts"
    torch.jit.save(ordinary.program(), file)
    return torch.jit.load(file)


@pytest.mark.parametrize(
    ("shape", "missing"),
    [
        ((120, 120, 19), ()),  # more slices than a batch, the last one not full
        ((50, 71, 6), ()),  # sides that are no multiples of 16
        ((40, 120, 1), ()),
        ((64, 64, 5), (3,)),  # no T1ce: the synthetic one takes its place
        ((64, 64, 5), (1,)),  # no T1: nothing is synthesized
        ((64, 64, 5), (0,)),  # no FLAIR: it is synthesized, and T1ce is not
        ((64, 64, 5), (0, 3)),
    ],
)
def test_logits_are_those_of_the_ordinary_chain(ordinary, program, shape, missing):
    image = study(shape, missing)
    expected = ordinary(image)
    with torch.no_grad():
        found = program(image[None])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    inside = expected[expected > -20]
    assert inside.std() > 0.1  # not one answer everywhere
    assert len(inside) < expected.numel()


def test_a_brain_that_is_cut_off_by_the_border_gives_the_same(ordinary, program):
    image = study((64, 64, 9))[:, 20:60, :40]
    assert image[0, 0].any()
    with torch.no_grad():
        torch.testing.assert_close(program(image[None]), ordinary(image), rtol=1e-4, atol=1e-4)


def test_the_order_of_magnitude_of_intensities_does_not_matter(program):
    image = study((64, 64, 4))
    with torch.no_grad():
        torch.testing.assert_close(program(1000 * image[None]), program(image[None]), rtol=1e-3, atol=1e-3)


def test_noise_is_the_same_each_time_and_that_of_the_seed(program):
    image = study((64, 64, 4))[None]
    with torch.no_grad():
        first = program(image)
        torch.manual_seed(5)
        assert torch.equal(program(image), first)
        program.seed += 1
        assert not torch.allclose(program(image), first, atol=1e-4)
        program.seed -= 1


@pytest.mark.slow
def test_masks_under_autocast_are_those_of_the_ordinary_chain_under_autocast():
    ordinary = Ordinary(amp=True, steps=1)
    image = study((64, 64, 8))
    with torch.no_grad():
        found, expected = ordinary.program()(image[None]), ordinary(image)
    both = ((found > 0) & (expected > 0)).sum()
    assert 2 * both / ((found > 0).sum() + (expected > 0).sum()) > 0.999
    assert (expected > 0).any()


def test_a_study_of_zeros_is_refused(program):
    with pytest.raises(torch.jit.Error, match="only zeros, expected a brain"):
        program(torch.zeros(1, 4, 32, 32, 2))


def test_a_head_with_its_skull_is_refused(program):
    """Of 3.1 l on 2 mm: it would be segmented as a brain of that size."""
    head = torch.zeros(1, 4, 96, 96, 60)
    head[:, 0, 3:93, 3:93, 5:53] = 1
    with pytest.raises(torch.jit.Error, match="more than a brain around which it is zero, expected skull-stripped"):
        program(head)


def test_a_sampler_that_draws_noise_at_each_step_is_refused():
    ordinary = Ordinary()
    ordinary.synthesis.sampler = partial(sample, steps=2, eta=1.0)
    with bad_input("sampler#eta 0"):
        ordinary.program()
    ordinary.synthesis.sampler, ordinary.synthesis.samples = sample, 2
    with bad_input("samples 1"):
        ordinary.program()


def test_the_box_is_that_of_the_inferer():
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        image = torch.zeros(2, 120, 100, 3)
        corners = torch.randint(0, 100, (2, 2), generator=generator).sort().values
        (top, bottom), (left, right) = corners.tolist()
        image[1, top : bottom + 1, left : right + 1, 1] = 1
        slices = pad_to_multiple(image.permute(3, 0, 1, 2), 16)
        rows, columns = brain_box(slices, 16)
        found, box = cut_to_brain(image, 16)
        assert box == [rows.start, rows.stop, columns.start, columns.stop]
        assert torch.equal(found, slices[..., rows, columns])
