"""What a network costs, sees and answers, layer by layer; and how it is drawn."""
