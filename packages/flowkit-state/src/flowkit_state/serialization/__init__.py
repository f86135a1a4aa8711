"""Conversion of values to JSON text or pickles, and back.

* `serializers`: `Serialization`, what a store uses. `serializer_protocol` is for serializers of users.
* `json_encoder` and `json_decoder`: values to JSON trees and back, with `builtin_types`, `library_types` and
  `class_references` for the types.
* `json_text`: JSON trees to text and back.
* `trampoline`: traversal of nested values without recursion.
"""
