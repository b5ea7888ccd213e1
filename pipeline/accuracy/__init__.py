"""How right a detector is: labelled pictures, the product's own way from picture to boxes, and COCO's metric."""
