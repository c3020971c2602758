import io

import matplotlib.image
import numpy as np

from mmarcface.functional.margins import arcface, cosface, target_logit_curve
from mmarcface.visualization import draw_target_logits


def test_figure_shows_every_curve():
    curves = {
        'ArcFace': target_logit_curve(lambda c: arcface(c, 0.5)),
        'CosFace': target_logit_curve(lambda c: cosface(c, 0.35)),
    }
    figure = draw_target_logits(curves)
    (axes,) = figure.axes
    assert [line.get_label() for line in axes.lines] == ['ArcFace', 'CosFace']
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), curves['ArcFace'][1])
    assert axes.get_xlim() == (0, 180)
    file = io.BytesIO()
    figure.savefig(file, format='png')
    file.seek(0)
    pixels = matplotlib.image.imread(file)
    assert len(np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0)) > 10
