"""Conversion of values to JSON text or pickles, and back.

* `serializers`: `Serialization`, what a store uses. `serializer_protocol` is for serializers of users.
* `json_encoder` and `json_decoder`: values to JSON trees and back, with `builtin_types`, `library_types`,
  `model_classes`, `class_references` and `data_types` for the types.
* `json_text`: JSON trees to text and back. `container`: a JSON text and the buffers to which it refers, as bytes.
* `trampoline`: traversal of nested values without recursion.
"""
