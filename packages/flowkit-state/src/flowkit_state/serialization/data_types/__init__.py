"""Forms of the values of data libraries: NumPy, pandas, polars and pyarrow. None of them is required.

* `forms`: `form_of` and `form_named` find the form of a value; `Binary` and `Composite` are the kinds of forms.
* `numpy_arrays`, `arrow_tables`, `polars_frames` and `pandas_frames`: the forms of one library each.

A process that has a value of a library has imported it, so nothing is imported to store a value.
"""
