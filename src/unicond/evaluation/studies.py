"""The studies of `unicond table`, by name."""

from unicond.evaluation.study import Study
from unicond.evaluation.study_company import COMPANY
from unicond.evaluation.study_guide import GUIDE
from unicond.evaluation.study_held import HELD
from unicond.evaluation.study_parts import PARTS
from unicond.evaluation.study_styles import STYLES
from unicond.evaluation.study_sweeps import SCALES, SCHEDULES, STEPS_STUDY

STUDIES: tuple[Study, ...] = (
    PARTS,
    GUIDE,
    COMPANY,
    SCALES,
    SCHEDULES,
    HELD,
    STEPS_STUDY,
    STYLES,
)
"""In the order shown."""
