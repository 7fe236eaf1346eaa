"""The laws that every model keeps, one function each: it answers None, or what it saw that breaks the law.

They call nothing but the model's public methods, so that they apply to any subclass of `MLEModel`. Each looks for one
fault and leaves the others to their own laws, so that one fault is reported once.
"""

from machine_learning_engineering.testing.case import Check
from machine_learning_engineering.testing.prediction_checks import (
    a_row_alone_is_answered_as_in_a_batch,
    a_saved_model_answers_the_same,
    evaluate_has_the_primary_metric,
    fitting_twice_gives_the_same_model,
    no_rows_get_no_predictions,
    one_prediction_a_row_of_its_type,
    predict_does_not_change_its_rows,
    predictions_are_finite_json,
    the_order_of_rows_does_not_matter,
    threads_get_what_one_gets,
)
from machine_learning_engineering.testing.request_checks import (
    a_wrong_type_is_refused_by_name,
    an_unknown_field_is_refused,
    decode_depends_on_nothing_but_its_bytes,
    features_and_prediction_are_frozen,
    methods_are_written,
    missing_values_follow_the_policy,
    name_is_well_formed,
    the_schema_accepts_the_examples,
    what_is_not_finite_is_refused_by_name,
)

CHECKS: tuple[Check, ...] = (
    methods_are_written,
    name_is_well_formed,
    features_and_prediction_are_frozen,
    the_schema_accepts_the_examples,
    an_unknown_field_is_refused,
    missing_values_follow_the_policy,
    a_wrong_type_is_refused_by_name,
    what_is_not_finite_is_refused_by_name,
    decode_depends_on_nothing_but_its_bytes,
    one_prediction_a_row_of_its_type,
    no_rows_get_no_predictions,
    a_row_alone_is_answered_as_in_a_batch,
    the_order_of_rows_does_not_matter,
    predict_does_not_change_its_rows,
    threads_get_what_one_gets,
    predictions_are_finite_json,
    fitting_twice_gives_the_same_model,
    a_saved_model_answers_the_same,
    evaluate_has_the_primary_metric,
)
